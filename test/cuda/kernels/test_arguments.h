// Arguments of the tests' own kernels.
#pragma once
#include "cuda/kernels/arguments.h"

namespace nd::cuda {

/// One warp: operands of each lane from `in`, results to `out`.
struct InstructionArgs {
  const uint32_t* in;
  uint32_t* out;
};

/// c [m][n] = a·bᵀ of halves by tensor copies and wgmma; maps of [rows][k], boxes of 64×64, 128-byte swizzle.
struct WgmmaArgs {
  TensorMapBytes a, b;
  float* c;
  int32_t m, n, k;
};
constexpr int kWgmmaStages = 3, kWgmmaTile = 64;
constexpr int kWgmmaThreads = 160;  // a warpgroup that multiplies, a warp that copies
constexpr int kWgmmaSharedBytes = kWgmmaStages * (2 * kWgmmaTile * kWgmmaTile * 2 + 2 * 8);

struct ReduceArgs {
  const float* x;
  float* sum;
  int32_t count;
};
constexpr int kReduceThreads = 256, kReduceSharedBytes = 32 * 4;

/// c [64][64] = a [64][k]·b [64][k]ᵀ through two buffers of cp.async; k a multiple of 32 but for the last
/// step.
struct PipelineArgs {
  const half *a, *b;
  float* c;
  int32_t k;
};
constexpr int kPipelineThreads = 128, kPipelineSharedBytes = 4 * 64 * 32 * 2;

}  // namespace nd::cuda
