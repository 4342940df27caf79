// Activations → int8, just before a product that multiplies it.
#include "cuda/kernels/epilogue.h"

namespace nd::cuda {

/// A thread has a chunk of eight channels, and eight threads share a scale.
DEVICE void quantize_rows(const QuantizeArgs& p) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kMoveThreads + threadIdx.x;
  const bool exists = index < p.total;
  float v[8] = {};
  if (exists) load8(p.x + index * 8, v);
  // The order of positive floats is that of their bits; infinity and NaN come last.
  uint32_t bits = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) bits = max(bits, __float_as_uint(v[i]) & 0x7fffffffu);
#pragma unroll
  for (int i = 1; i < 8; i *= 2) bits = max(bits, __shfl_xor_sync(~0u, bits, i));
  if (!exists) return;
  const bool finite = bits < 0x7f800000u;
  const float largest = __int_as_float(static_cast<int>(bits));
  const float inverse = finite && bits ? 127.0f / largest : 0.0f;
  uint32_t words[2] = {0, 0};
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    // The last byte of 1.5 · 2²³ + x is x, rounded to the nearest.
    const float code = __fadd_rn(__fmul_rn(v[i], inverse), __int_as_float(kInt8Origin));
    words[i / 4] |= (__float_as_uint(code) & 255) << i % 4 * 8;
  }
  *reinterpret_cast<uint2*>(p.codes + index * 8) = uint2{words[0], words[1]};
  if (index % 8 == 0) p.scales[index / 8] = finite ? largest * (1.0f / 127.0f) : __int_as_float(0x7fc00000);
}

}  // namespace nd::cuda

ND_KERNEL(quantize_rows, QuantizeArgs, nd::cuda::kMoveThreads, 2, nd::cuda::quantize_rows)
