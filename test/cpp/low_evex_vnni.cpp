#include "low_evex_vnni.h"

#ifdef ND_X86_KERNELS
#define ND_ISA avx2_evex_vnni
#define ND_VNNI "%{evex%}"
#include "cpu/kernels/simd/low_avx2.inc.h"

namespace nd::test {
const cpu::ReducedGemm avx2_evex_vnni_i8 = cpu::avx2_evex_vnni::make_i8();
}  // namespace nd::test
#endif
