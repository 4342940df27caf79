#include <immintrin.h>

#define ND_ISA avx512
#define ND_VEC "cpu/kernels/simd/vec_avx512.h"
#define ND_TILE_VECS 4
#include "cpu/kernels/simd/table.inc.h"

namespace nd::cpu {
const Kernels avx512_kernels = avx512::make_table("avx512");
}  // namespace nd::cpu
