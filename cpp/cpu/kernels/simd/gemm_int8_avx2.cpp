// int8 products for AVX2 without VNNI.
#define ND_ISA int8_avx2
#include "cpu/kernels/simd/gemm_int8_avx2.inc.h"

namespace nd::cpu {
constexpr ReducedGemm avx2_i8 = int8_avx2::make_table();
}  // namespace nd::cpu
