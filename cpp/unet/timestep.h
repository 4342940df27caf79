// The timestep as a vector: sinusoidal embedding (Vaswani et al. 2017; Ho et al. 2020), then two linear
// layers.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "nn/loader.h"
#include "unet/config.h"

namespace nd {

/// One timestep's sinusoidal embedding: out [width], half sines and half cosines of timestep ·
/// 10000^(−i/(half−shift)). cosine_first: diffusers' flip_sin_to_cos. An odd width ends with 0.
void sinusoidal_embedding(float timestep, int64_t width, bool cosine_first, float frequency_shift,
                          float* out);

class TimestepEmbedding {
 public:
  TimestepEmbedding() = default;
  TimestepEmbedding(Loader& loader, const std::string& prefix, const UnetConfig& config);

  /// timesteps [n] → [n][1][1][time_width], with the SiLU that every ResBlock would begin its projection
  /// with.
  Tensor forward(ForwardContext& ctx, const std::vector<float>& timesteps) const;

 private:
  std::unique_ptr<Linear> linear1_, linear2_;
  int64_t width_ = 0;
  bool cosine_first_ = true;
  float frequency_shift_ = 0;
};

}  // namespace nd
