// What the reduced-precision products of NEON's extensions share. The including file defines ND_ISA and
// writes its instruction as a volatile asm: around the intrinsics GCC 12 loads all weights of a step first,
// which leaves too few registers for the accumulators.
#define ND_VECTOR "cpu/kernels/simd/vec_neon.inc.h"
#include "cpu/kernels/simd/prelude.inc.h"
#include "cpu/kernels/simd/gemm.inc.h"
#include "cpu/kernels/simd/reduced_gemm.inc.h"

namespace nd::cpu::ND_ISA {
namespace {

using Words = uint8x16_t;
inline Words broadcast_word(const uint8_t* p) {
  uint32_t x;
  __builtin_memcpy(&x, p, 4);
  return vreinterpretq_u8_u32(vdupq_n_u32(x));
}
inline Words load_words(const uint8_t* p) {
  return vld1q_u8(p);
}

}  // namespace
}  // namespace nd::cpu::ND_ISA

#include "cpu/kernels/simd/reduced_tiles.inc.h"
#include "cpu/kernels/simd/reduced_rows.inc.h"
#include "cpu/kernels/simd/int4.inc.h"
