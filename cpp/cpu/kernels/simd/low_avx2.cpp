#define ND_ISA avx2_low
#include "cpu/kernels/simd/low_avx2.inc.h"

namespace nd::cpu {
const ReducedGemm avx2_i8 = avx2_low::make_i8();
}  // namespace nd::cpu
