// int8 products with FEAT_DotProd (sdot: both operands signed).
#define ND_ISA int8_neon_dotprod
#include "cpu/kernels/simd/reduced_neon.inc.h"

namespace nd::cpu::ND_ISA {
namespace {

struct I8Dot {
  using Acc = int32x4_t;
  static constexpr float kSteps = 255.0f, kShift = 128.0f;
  static Acc none() { return vdupq_n_s32(0); }
  static void dot(Acc& acc, Words a, Words b) {
    asm volatile("sdot %0.4s, %1.16b, %2.16b" : "+w"(acc) : "w"(a), "w"(b));
  }
  static Vec to_float(Acc acc) { return vcvtq_f32_s32(acc); }
  static void store(uint8_t* out, Vec x) {
    const int16x4_t words = vqmovn_s32(vcvtnq_s32_f32(x));
    const int8x8_t bytes = vqmovn_s16(vcombine_s16(words, words));
    vst1_lane_u32(reinterpret_cast<uint32_t*>(out), vreinterpret_u32_s8(bytes), 0);
  }
};

constexpr ReducedGemm make_table() {
  ReducedGemm table = int8_table<I8Format<I8Dot>, I8Converter<I8Dot>, 4>();
  table.expand_int4 = expand_int4<4>;
  return table;
}

}  // namespace
}  // namespace nd::cpu::ND_ISA

namespace nd::cpu {
constexpr ReducedGemm neon_dotprod_i8 = int8_neon_dotprod::make_table();
}  // namespace nd::cpu
