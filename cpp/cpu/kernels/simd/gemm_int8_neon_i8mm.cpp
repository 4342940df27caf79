// int8 products with FEAT_I8MM (usmmla: unsigned activations, signed weights), which computes twice as many
// products in one instruction as sdot.
#define ND_ISA int8_neon_i8mm
#include "cpu/kernels/simd/reduced_neon.inc.h"
#include "cpu/kernels/simd/reduced_tiles_mmla.inc.h"

namespace nd::cpu::ND_ISA {
namespace {

struct I8Matrix {
  using Acc = int32x4_t;
  static constexpr float kSteps = 255.0f, kShift = 0.0f;
  static Acc none() { return vdupq_n_s32(0); }
  static void multiply(Acc& acc, Words rows, Words columns) {
    asm volatile("usmmla %0.4s, %1.16b, %2.16b" : "+w"(acc) : "w"(rows), "w"(columns));
  }
  static Vec to_float(Acc acc) { return vcvtq_f32_s32(acc); }
  static void store(uint8_t* out, Vec x) {
    const uint16x4_t words = vqmovun_s32(vcvtnq_s32_f32(x));
    const uint8x8_t bytes = vqmovn_u16(vcombine_u16(words, words));
    vst1_lane_u32(reinterpret_cast<uint32_t*>(out), vreinterpret_u32_u8(bytes), 0);
  }
};

constexpr ReducedGemm make_table() {
  ReducedGemm table = int8_table<I8MatrixFormat<I8Matrix>, I8Converter<I8Matrix>, kDepthBytes>();
  table.expand_int4 = expand_int4<kDepthBytes>;
  return table;
}

}  // namespace
}  // namespace nd::cpu::ND_ISA

namespace nd::cpu {
constexpr ReducedGemm neon_i8mm_i8 = int8_neon_i8mm::make_table();
}  // namespace nd::cpu
