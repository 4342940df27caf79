// The tables of the reference and of each source in simd/. Included there, by dispatch.cpp and by tests.
#pragma once
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/reduced_gemm.h"

namespace nd::cpu {

extern const Kernels ref_kernels;
extern const ReducedGemm ref_bf16, ref_i8;
#ifdef ND_X86_KERNELS
extern const Kernels avx512_kernels;
extern const Kernels avx2_kernels;
extern const ReducedGemm avx512_bf16, avx512_i8, avx512_i16, avxvnni_i8, avx2_i8;
extern const AttentionKernel avx512_bf16_attention;
#endif
#ifdef ND_NEON_KERNELS
extern const Kernels neon_kernels;
extern const ReducedGemm neon_bf16, neon_dotprod_i8, neon_i8mm_i8;
#endif

}  // namespace nd::cpu
