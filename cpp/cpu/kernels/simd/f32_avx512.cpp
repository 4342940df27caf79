// The float32 kernels for AVX-512 F, BW, VL and DQ.
#define ND_ISA f32_avx512
#define ND_VECTOR "cpu/kernels/simd/vec_avx512.inc.h"
#include "cpu/kernels/simd/f32_table.inc.h"

namespace nd::cpu {
constexpr Kernels avx512_kernels = f32_avx512::make_table("avx512");
}  // namespace nd::cpu
