// The timestep as a vector: sinusoidal embedding (Vaswani et al. 2017; Ho et al. 2020), then two linear
// layers; and what other models embed beside it.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "nn/loader.h"
#include "unet/conditioning.h"
#include "unet/config.h"

namespace nd {

/// One number's sinusoidal embedding: out [width], half sines and half cosines of number ·
/// 10000^(−i/(half−shift)). cosine_first: diffusers' flip_sin_to_cos. An odd width ends with 0.
void sinusoidal_embedding(float number, int64_t width, bool cosine_first, float frequency_shift, float* out);

/// All that the vectors of n images depend on, one row [floats] for each.
struct TimestepKeys {
  std::vector<float> values;  // [n][floats]: timestep, guidance, class, control types, pooled text, numbers
  int64_t n = 0;
  int64_t floats = 1;
  int64_t time_ids = 0;  // the last ones of a row

  const float* row(int64_t i) const { return values.data() + i * floats; }
};

class TimestepEmbedding {
 public:
  TimestepEmbedding() = default;
  TimestepEmbedding(Loader& loader, const UnetConfig& config);

  /// Error invalid_argument: a condition is missing, is not one of this model, or has another width.
  void check(const Conditioning& given, int64_t n) const;
  /// The same errors.
  TimestepKeys keys(const Conditioning& given, int64_t n) const;
  /// Keys of n images without values, to measure with.
  TimestepKeys no_keys(int64_t n) const;
  /// Numbers of a key at most.
  int64_t max_key_floats() const;

  /// → [n][1][1][time_width], with the SiLU that every ResBlock would begin its projection with.
  Tensor forward(ForwardContext& ctx, const TimestepKeys& keys) const;

 private:
  /// Two linear layers with SiLU between them.
  struct Projection {
    std::shared_ptr<const Linear> linear1, linear2;
    Projection() = default;
    Projection(Loader& loader, const std::string& prefix, int64_t in, int64_t out);
    Tensor forward(ForwardContext& ctx, const Tensor& x, const Epilogue& last) const;
  };

  /// Embeds the number of each image in this column of its key.
  Tensor waves(ForwardContext& ctx, const TimestepKeys& keys, int64_t column) const;
  Tensor time(ForwardContext& ctx, const TimestepKeys& keys) const;
  Tensor classes(ForwardContext& ctx, const TimestepKeys& keys) const;
  Tensor added(ForwardContext& ctx, const TimestepKeys& keys, const Tensor& others) const;
  Tensor control_types(ForwardContext& ctx, const TimestepKeys& keys, const Tensor& others) const;
  int64_t class_column() const { return config_.guidance_width > 0 ? 2 : 1; }
  int64_t control_column() const { return class_column() + config_.class_floats(); }
  int64_t added_column() const { return control_column() + config_.control_types; }

  UnetConfig config_;
  Projection time_, class_, added_, control_;
  std::shared_ptr<const Linear> guidance_;
  std::shared_ptr<const Embedding> class_table_;
};

}  // namespace nd
