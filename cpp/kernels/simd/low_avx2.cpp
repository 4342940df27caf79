#define ND_ISA avx2_low
#include "kernels/simd/low_avx2.inc.h"

namespace nd {
const LowMatrix avx2_i8 = avx2_low::make_i8();
}  // namespace nd
