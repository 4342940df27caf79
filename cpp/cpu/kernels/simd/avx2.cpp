#include <immintrin.h>

#define ND_ISA avx2
#define ND_VEC "cpu/kernels/simd/vec_avx2.h"
#define ND_TILE_VECS 2
#include "cpu/kernels/simd/table.inc.h"

namespace nd::cpu {
const Kernels avx2_kernels = avx2::make_table("avx2");
}  // namespace nd::cpu
