// Makes a model's layers from its stored weights: which tensors a layer needs, under which names and of which
// shapes, stands here once for all backends.
#pragma once
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "core/cancel.h"
#include "nn/backend.h"
#include "nn/precision.h"
#include "weights/weight_table.h"

namespace nd {

/// Which matrices stay in memory. The others are read from their files and packed whenever a layer needs
/// them.
enum class Residency {
  all,
  per_step,  // those that are used in every denoising step; others are used once per image or less often
  none,
};

struct LoadOptions {
  Precision precision = Precision::automatic;
  Residency residency = Residency::all;
  /// No weights are read: the model knows what memory and work it takes, and must not compute.
  bool plan = false;
};

struct RequiredTensor {
  std::string name;
  std::vector<int64_t> shape;  // torch order
};

/// The layers that a model was made of, by kind and name.
struct LayerTable {
  std::unordered_map<std::string, std::shared_ptr<const void>> layers;
  TaskBytes task_bytes;
};

/// A model of the same configuration that differs in some tensors: it shares all layers without them.
struct Variant {
  const LayerTable& base;
  const std::unordered_set<std::string>& changed;  // names of tensors
};

class Loader {
 public:
  Loader(const WeightTable& weights, Backend& backend, const LoadOptions& options = {},
         const CancelToken* cancel = nullptr, const Variant* variant = nullptr);
  /// A dry run: whatever model is built from this loader has no layers; each tensor that it asks for is added
  /// to `list`.
  explicit Loader(std::vector<RequiredTensor>& list);
  /// Frees what the backend needed for making layers.
  ~Loader() { backend_->trim(); }
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  Backend& backend() const { return *backend_; }
  const CancelToken* cancel() const { return cancel_; }
  PrecisionPolicy& precision() { return precision_; }
  const PrecisionPolicy& precision() const { return precision_; }
  /// Whether matrices that are made now are streamed: read and packed whenever a layer needs them.
  bool streams() const {
    return residency_ == Residency::none || (residency_ == Residency::per_step && once_per_image_);
  }
  /// Whether layers are made without weights: see LoadOptions.
  bool plans() const { return plans_; }
  /// Bytes that the layers made so far hold, without those that are shared with another model.
  size_t packed_bytes() const { return packed_bytes_; }
  void add_packed_bytes(size_t bytes) { packed_bytes_ += bytes; }
  /// The largest that the tasks of any layer made so far need.
  const TaskBytes& task_bytes() const { return table_.task_bytes; }
  void need_task_bytes(const TaskBytes& bytes) { table_.task_bytes.include(bytes); }
  /// What a variant of this model is made from.
  LayerTable take_table() { return std::move(table_); }

  /// `name`.weight [out][in], or [in][out] where the options say so, and, with a bias, `name`.bias [out].
  std::shared_ptr<const Linear> linear(const std::string& name, int64_t in, int64_t out,
                                       const LinearOptions& options = {});
  /// Two layers without bias of the same input, [out_each][in] each, whose outputs lie side by side.
  std::shared_ptr<const Linear> linear_pair(const std::string& first, const std::string& second, int64_t in,
                                            int64_t out_each);
  /// Layers `in` (2·inner rows: values, then gates) and `out`.
  std::shared_ptr<const FeedForward> feed_forward(const std::string& in_name, const std::string& out_name,
                                                  int64_t channels, int64_t inner);
  /// `name`.weight [out][in][kernel][kernel] and, with a bias, `name`.bias [out].
  std::shared_ptr<const Conv2d> conv2d(const std::string& name, int64_t in, int64_t out,
                                       const Conv2dOptions& options = {});
  /// `name`.weight and `name`.bias [channels]. `wide`: the input is, see Conv2dOptions.
  std::shared_ptr<const GroupNorm> group_norm(const std::string& name, int64_t channels, int64_t groups,
                                              float eps, bool wide = false);
  /// One without weights.
  std::shared_ptr<const GroupNorm> plain_group_norm(int64_t channels, int64_t groups, float eps);
  std::shared_ptr<const LayerNorm> layer_norm(const std::string& name, int64_t channels, float eps);
  /// Linear layers under `prefix` with the names of the options.
  std::shared_ptr<const Attention> attention(const std::string& prefix, const AttentionOptions& options);
  /// `name` [count][width].
  std::shared_ptr<const Embedding> embedding(const std::string& name, int64_t count, int64_t width);
  /// A single vector, `name` [width], as a table of one.
  std::shared_ptr<const Embedding> vector_embedding(const std::string& name, int64_t width);
  /// `name` [length], in the host's memory; empty in a dry run.
  std::vector<float> vector(const std::string& name, int64_t length);
  /// `name` [size][width].
  std::shared_ptr<const Codebook> codebook(const std::string& name, int64_t size, int64_t width);

 private:
  friend class OncePerImage;
  /// The layer of these tensors: that of the base where none of them changes, else what `make` makes.
  template <class Layer, class Make>
  std::shared_ptr<const Layer> layer(const char* kind, const std::vector<std::string>& tensors, Make make);
  StoredTensor require(const std::string& name, const std::vector<int64_t>& shape);
  LinearWeights linear_weights(const std::vector<std::string>& names, int64_t in, int64_t out_each, bool bias,
                               Role role);
  LinearWeights transposed_weights(const std::string& name, int64_t in, int64_t out, Role role);
  NormWeights norm_weights(const std::string& name, int64_t channels);

  const WeightTable* weights_ = nullptr;
  std::vector<RequiredTensor>* required_ = nullptr;  // of a dry run
  Backend* backend_;
  PrecisionPolicy precision_;
  Residency residency_ = Residency::all;
  bool plans_ = false;
  bool once_per_image_ = false;
  const CancelToken* cancel_ = nullptr;
  size_t packed_bytes_ = 0;
  const Variant* variant_ = nullptr;
  LayerTable table_;
};

/// Layers that are made while one of these lives are used once per image or less often.
class OncePerImage {
 public:
  explicit OncePerImage(Loader& loader) : loader_(loader), before_(loader.once_per_image_) {
    loader.once_per_image_ = true;
  }
  ~OncePerImage() { loader_.once_per_image_ = before_; }
  OncePerImage(const OncePerImage&) = delete;
  OncePerImage& operator=(const OncePerImage&) = delete;

 private:
  Loader& loader_;
  const bool before_;
};

/// Every tensor that a model of this configuration is built from. Error invalid_argument (config).
template <class Model, class Config>
std::vector<RequiredTensor> required_tensors(const Config& config) {
  std::vector<RequiredTensor> list;
  Loader loader(list);
  const Model model(config, loader);
  return list;
}

}  // namespace nd
