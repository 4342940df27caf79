#include "nn/dry_backend.h"

#include "core/error.h"

namespace nd {
namespace {

[[noreturn]] void no_layers() {
  throw Error(ErrorCode::invalid_argument, "A model of a dry run has no layers to compute with");
}

class DryBackend final : public Backend {
 public:
  const Capabilities& capabilities() const override {
    static const Capabilities none;
    return none;
  }
  const FloatDecoders& decoders() const override { return scalar_decoders; }
  size_t element_bytes() const override { return sizeof(float); }
  Memory& memory() override { return host_memory(); }
  void run(Arena&, const CancelToken*, Profile*, const std::function<void(ForwardContext&)>&) override {
    no_layers();
  }

  std::unique_ptr<Linear> linear(Loader&, LinearWeights, const LinearOptions&) override { return nullptr; }
  std::unique_ptr<FeedForward> feed_forward(Loader&, LinearWeights, LinearWeights) override {
    return nullptr;
  }
  std::unique_ptr<Conv2d> conv2d(Loader&, Conv2dWeights, const Conv2dOptions&) override { return nullptr; }
  std::unique_ptr<GroupNorm> group_norm(Loader&, NormWeights, int64_t, float) override { return nullptr; }
  std::unique_ptr<LayerNorm> layer_norm(Loader&, NormWeights, float) override { return nullptr; }
  std::unique_ptr<Attention> attention(Loader&, AttentionWeights, const AttentionOptions&) override {
    return nullptr;
  }
  std::unique_ptr<Embedding> embedding(Loader&, const StoredTensor&) override { return nullptr; }
  std::unique_ptr<Codebook> codebook(Loader&, const StoredTensor&) override { return nullptr; }

  std::unique_ptr<ChannelMoments> channel_moments() override { no_layers(); }
  std::unique_ptr<TokenMerge> merge_tokens(ForwardContext&, const Tensor&, double) override { no_layers(); }
  Tensor concat(ForwardContext&, const Tensor&, const Tensor&) override { no_layers(); }
  void copy_rows(ForwardContext&, const Tensor&, int64_t, const Tensor&, int64_t, int64_t) override {
    no_layers();
  }
  void add_rows(ForwardContext&, const Tensor&, int64_t, const Tensor&, int64_t, int64_t, float,
                bool) override {
    no_layers();
  }
  void add_masked(ForwardContext&, const Tensor&, const Tensor&, float, const Tensor*) override {
    no_layers();
  }
  Tensor average_pool(ForwardContext&, const Tensor&) override { no_layers(); }
  Tensor resample(ForwardContext&, const Tensor&, Resampling) override { no_layers(); }
  void put(ForwardContext&, const float*, const Tensor&, int64_t, int64_t) override { no_layers(); }
  void get(ForwardContext&, const Tensor&, float*) override { no_layers(); }
  Tensor from_planar(ForwardContext&, const float*, int64_t, int64_t, int64_t, int64_t) override {
    no_layers();
  }
  void to_planar(ForwardContext&, const Tensor&, float*) override { no_layers(); }
  Tensor read_planes(ForwardContext&, const PlanarSource&, Rows) override { no_layers(); }
  void write_planes(ForwardContext&, const Tensor&, int64_t, Rows, const PlanarTarget&) override {
    no_layers();
  }
  void store_rows(ForwardContext&, const Tensor&, int64_t, Rows, const StoredRows&) override { no_layers(); }
  void load_rows(ForwardContext&, const StoredRows&, Rows, const Tensor&) override { no_layers(); }
};

}  // namespace

Backend& dry_backend() {
  static DryBackend backend;
  return backend;
}

}  // namespace nd
