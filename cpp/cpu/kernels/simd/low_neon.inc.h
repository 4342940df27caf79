// What the narrow products of NEON's extensions share. The including file defines ND_ISA and
// writes its instruction as a volatile asm: around the intrinsics GCC 12 loads all weights of a step first,
// which leaves too few registers for the accumulators.
#include <arm_neon.h>

#include "cpu/kernels/int4.h"
#include "cpu/kernels/tables.h"

#define ND_TILE_VECS 4
namespace nd::cpu::ND_ISA {
namespace {

#include "cpu/kernels/simd/vec_neon.h"
#include "cpu/kernels/simd/math.inc.h"
#include "cpu/kernels/simd/layout.inc.h"
#include "cpu/kernels/simd/elementwise.inc.h"
#include "cpu/kernels/simd/gemm.inc.h"
#include "cpu/kernels/simd/low_gemm.inc.h"

using Words = uint8x16_t;
inline Words broadcast_word(const uint8_t* p) {
  uint32_t x;
  __builtin_memcpy(&x, p, 4);
  return vreinterpretq_u8_u32(vdupq_n_u32(x));
}
inline Words load_words(const uint8_t* p) {
  return vld1q_u8(p);
}

#include "cpu/kernels/simd/low_tiles.inc.h"
#include "cpu/kernels/simd/low_rows.inc.h"
#include "cpu/kernels/simd/int4.inc.h"

}  // namespace
}  // namespace nd::cpu::ND_ISA
