#include <arm_neon.h>

#define ND_ISA neon
#define ND_VEC "cpu/kernels/simd/vec_neon.h"
#define ND_TILE_VECS 4
#include "cpu/kernels/simd/table.inc.h"

namespace nd::cpu {
const Kernels neon_kernels = neon::make_table("neon");
}  // namespace nd::cpu
