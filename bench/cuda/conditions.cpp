#include "conditions.h"

#include "measure.h"

namespace nd::cuda_bench {
namespace {

constexpr int64_t kTimeIds = 6;

}  // namespace

Conditions::Conditions(const UnetConfig& config, int64_t pixels)
    : context(noise(2 * kContextLength * config.context_width, 2)) {
  if (!config.added_width) return;
  pooled = noise(2 * (config.added_width - kTimeIds * config.added_time_width), 4);
  const float side = static_cast<float>(pixels);
  // The image's size, where it was cut, and the size that is asked for.
  for (int row = 0; row < 2; ++row) time_ids.insert(time_ids.end(), {side, side, 0, 0, side, side});
}

Conditioning Conditions::view(const float* timesteps) const {
  Conditioning result{timesteps, context.data(), kContextLength};
  if (pooled.empty()) return result;
  result.pooled = pooled.data(), result.pooled_width = static_cast<int64_t>(pooled.size()) / 2;
  result.time_ids = time_ids.data(), result.time_id_count = kTimeIds;
  return result;
}

}  // namespace nd::cuda_bench
