// AVX-VNNI's table in AVX-512's encoding (EVEX) of the same instruction: most machines that run tests have
// only that encoding.
#pragma once
#include "cpu/kernels/reduced_gemm.h"

namespace nd::test {
#ifdef ND_X86_KERNELS
extern const cpu::ReducedGemm avx2_evex_vnni_i8;
#endif
}  // namespace nd::test
