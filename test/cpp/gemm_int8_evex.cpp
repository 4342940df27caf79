#include "gemm_int8_evex.h"

#ifdef ND_X86_KERNELS
#define ND_ISA int8_evex
#define ND_VNNI "%{evex%}"
#include "cpu/kernels/simd/gemm_int8_avx2.inc.h"

namespace nd::test {
constexpr cpu::ReducedGemm avx2_evex_vnni_i8 = cpu::int8_evex::make_table();
}  // namespace nd::test
#endif
