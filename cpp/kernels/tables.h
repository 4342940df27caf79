// Where each instruction set's table comes from. Only dispatch.cpp and tests include this.
#pragma once
#include "kernels/kernels.h"

namespace nd {

extern const Kernels ref_kernels;
#ifdef ND_X86_KERNELS
extern const Kernels avx512_kernels;
extern const Kernels avx2_kernels;
#endif
#ifdef ND_NEON_KERNELS
extern const Kernels neon_kernels;
#endif

}  // namespace nd
