// Activations as int8, for products that multiply it.
#pragma once
#include "cuda/kernels/device.h"

namespace nd::cuda {

/// A thread has a chunk of eight channels, the `chunk`-th of all, if it exists, and eight threads share a
/// scale. All threads of a warp call this.
DEVICE void store_int8(const Int8Rows& to, int64_t chunk, const float (&v)[8], bool exists) {
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
  *reinterpret_cast<uint2*>(to.codes + chunk * 8) = uint2{words[0], words[1]};
  if (chunk % 8 == 0) to.scales[chunk / 8] = finite ? largest * (1.0f / 127.0f) : __int_as_float(0x7fc00000);
}

}  // namespace nd::cuda
