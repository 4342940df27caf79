// The float32 kernels for NEON, which every 64-bit Arm CPU has.
#define ND_ISA f32_neon
#define ND_VECTOR "cpu/kernels/simd/vec_neon.inc.h"
#include "cpu/kernels/simd/f32_table.inc.h"

namespace nd::cpu {
constexpr Kernels neon_kernels = f32_neon::make_table("neon");
}  // namespace nd::cpu
