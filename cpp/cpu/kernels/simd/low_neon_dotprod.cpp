// int8 products with FEAT_DotProd (sdot: both operands signed).
#define ND_ISA neon_dotprod
#include "cpu/kernels/simd/low_neon.inc.h"

namespace nd::cpu::neon_dotprod {
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

void i8_gemm(const ReducedGemmArgs& args, int64_t m0, int64_t m1, int64_t p0, int64_t p1) {
  low_gemm<I8Format<I8Dot>>(args, m0, m1, p0, p1);
}

}  // namespace
}  // namespace nd::cpu::neon_dotprod

namespace nd::cpu {
using namespace neon_dotprod;
const ReducedGemm neon_i8 = {1,
                             4,
                             kPiece,
                             2,
                             low_panel_bytes<I8Format<I8Dot>>,
                             i8_pack_panel<4>,
                             low_convert_rows<I8Rows<I8Dot>>,
                             i8_gemm,
                             nullptr,
                             i8_expand<4>};
}  // namespace nd::cpu
