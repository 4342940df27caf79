// Self-attention by Hopper's kernels.
#pragma once
#include <cmath>

#include "cuda/context.h"

namespace nd::cuda {

/// What scores are multiplied by, for powers of two in place of e.
inline float attention_scale(int64_t head_dim) {
  constexpr float kLog2E = 1.44269504f;
  return kLog2E / std::sqrt(static_cast<float>(head_dim));
}

struct SelfAttentionShape {
  int64_t images, length, heads, head_dim;
};

/// Whether Hopper's kernels can compute it, and may.
bool attends_by_warpgroups(const Device& device, const SelfAttentionShape& shape, bool causal);
/// The smallest kernel that takes heads of this size.
Kernel hopper_attention_kernel(int64_t head_dim);
Grid hopper_attention_grid(const SelfAttentionShape& shape);
/// qkv [images][length][3][heads][head_dim] → out [images][length][heads][head_dim].
HopperAttentionArgs hopper_attention_arguments(const Driver& driver, const half* qkv, half* out,
                                               const SelfAttentionShape& shape);

}  // namespace nd::cuda
