// What a guided prediction is conditioned on.
#pragma once
#include <vector>

#include "unet/conditioning.h"
#include "unet/config.h"

namespace nd::cuda_bench {

constexpr int64_t kContextLength = 77;

/// Arrays of two rows, the unconditional one first. Text is random; the UNet may have none of the rest.
struct Conditions {
  Conditions(const UnetConfig& config, int64_t pixels);
  /// For these arrays and timesteps, of two rows.
  Conditioning view(const float* timesteps) const;

  std::vector<float> context, pooled, time_ids;
};

}  // namespace nd::cuda_bench
