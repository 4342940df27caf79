#include "unet/timestep.h"

#include <cmath>

namespace nd {

namespace {
constexpr LinearOptions kSensitive = {/*bias=*/true, /*sensitive=*/true, /*geglu=*/false};
}

void sinusoidal_embedding(float timestep, int64_t width, bool cosine_first, float frequency_shift,
                          float* out) {
  const int64_t half = width / 2;
  const float log_period = static_cast<float>(-std::log(10000.0));
  // The shift is subtracted before rounding, as PyTorch does with a scalar divisor.
  const float divisor = static_cast<float>(static_cast<double>(half) - static_cast<double>(frequency_shift));
  float* sines = out + (cosine_first ? half : 0);
  float* cosines = out + (cosine_first ? 0 : half);
  for (int64_t i = 0; i < half; ++i) {
    const float angle = timestep * std::exp(log_period * static_cast<float>(i) / divisor);
    sines[i] = std::sin(angle);
    cosines[i] = std::cos(angle);
  }
  if (width % 2 != 0) out[width - 1] = 0;
}

TimestepEmbedding::TimestepEmbedding(Loader& loader, const std::string& prefix, const UnetConfig& config)
    : linear1_(loader, prefix + ".linear_1", config.block_channels[0], config.time_width(), kSensitive),
      linear2_(loader, prefix + ".linear_2", config.time_width(), config.time_width(), kSensitive),
      width_(config.block_channels[0]),
      cosine_first_(config.flip_sin_to_cos),
      frequency_shift_(config.freq_shift) {}

Feature TimestepEmbedding::forward(Run& run, const float* timesteps, int64_t n) const {
  Feature waves(run, n, 1, 1, width_);
  if (!run.measuring()) {
    for (int64_t i = 0; i < n; ++i) {
      sinusoidal_embedding(timesteps[i], width_, cosine_first_, frequency_shift_, waves.data() + i * width_);
    }
  }
  Fuse silu;
  silu.activation = Activation::silu;
  const Feature hidden = linear1_.forward(run, waves, silu);
  return linear2_.forward(run, hidden, silu);
}

}  // namespace nd
