// What a prediction is conditioned on besides the latents. One struct from TypeScript to the model's layers,
// so that a new kind of condition (pooled text, time ids, residuals of a ControlNet, image tokens) is one
// field here, and a part of the key of every cache that depends on it.
#pragma once
#include <cstdint>

namespace nd {

/// Arrays on the host, one row for each image of the batch.
struct Conditioning {
  const float* timesteps = nullptr;  // [n]
  const float* context = nullptr;    // [n][context_length][context_width], what cross-attention attends to
  int64_t context_length = 0;
};

/// Noisy latents [n][in_channels][h][w] and what their prediction is conditioned on.
struct UnetInput {
  const float* latents = nullptr;
  int64_t n = 0, h = 0, w = 0;
  Conditioning conditioning;
};

}  // namespace nd
