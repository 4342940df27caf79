// AVX-VNNI: the dot products of AVX512-VNNI for CPUs without AVX-512 (Alder Lake, Zen 5). The instruction is
// written with its encoding: without {vex}, assemblers choose AVX-512's.
#define ND_ISA avxvnni_low
#define ND_VNNI "%{vex%}"
#include "cpu/kernels/simd/low_avx2.inc.h"

namespace nd::cpu {
const ReducedGemm avxvnni_i8 = avxvnni_low::make_i8();
}  // namespace nd::cpu
