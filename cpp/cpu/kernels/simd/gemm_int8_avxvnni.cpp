// int8 products for AVX-VNNI: the dot product of AVX512-VNNI on CPUs without AVX-512 (Alder Lake). The
// instruction is written with its encoding: without {vex}, assemblers choose AVX-512's.
#define ND_ISA int8_avxvnni
#define ND_VNNI "%{vex%}"
#include "cpu/kernels/simd/gemm_int8_avx2.inc.h"

namespace nd::cpu {
constexpr ReducedGemm avxvnni_i8 = int8_avxvnni::make_table();
}  // namespace nd::cpu
