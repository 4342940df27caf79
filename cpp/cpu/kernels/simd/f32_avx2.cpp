// The float32 kernels for AVX2, FMA and F16C.
#define ND_ISA f32_avx2
#define ND_VECTOR "cpu/kernels/simd/vec_avx2.inc.h"
#include "cpu/kernels/simd/f32_table.inc.h"

namespace nd::cpu {
constexpr Kernels avx2_kernels = f32_avx2::make_table("avx2");
}  // namespace nd::cpu
