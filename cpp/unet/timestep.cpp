#include "unet/timestep.h"

#include <cmath>

namespace nd {

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
    : width_(config.block_channels[0]),
      cosine_first_(config.flip_sin_to_cos),
      frequency_shift_(config.freq_shift) {
  LinearOptions options;
  options.role = Role::time_embedding;
  linear1_ = loader.linear(prefix + ".linear_1", width_, config.time_width(), options);
  linear2_ = loader.linear(prefix + ".linear_2", config.time_width(), config.time_width(), options);
}

Tensor TimestepEmbedding::forward(ForwardContext& ctx, const std::vector<float>& timesteps) const {
  const auto n = static_cast<int64_t>(timesteps.size());
  const Tensor waves(ctx, n, 1, 1, width_);
  if (!ctx.measuring()) {
    std::vector<float> values(static_cast<size_t>(n * width_));
    for (int64_t i = 0; i < n; ++i)
      sinusoidal_embedding(timesteps[static_cast<size_t>(i)], width_, cosine_first_, frequency_shift_,
                           values.data() + i * width_);
    ctx.backend.put(ctx, values.data(), waves, 0, n);
  }
  Epilogue silu;
  silu.activation = Activation::silu;
  const Tensor hidden = linear1_->forward(ctx, waves, silu);
  return linear2_->forward(ctx, hidden, silu);
}

}  // namespace nd
