// bfloat16 products with FEAT_BF16 (bfdot).
#define ND_ISA neon_bf16_dot
#include "kernels/simd/low_neon.inc.h"

namespace nd::neon_bf16_dot {
namespace {

struct Bf16Dot {
  using Acc = float32x4_t;
  static void dot(Acc& acc, Words a, Words b) {
    acc = vbfdotq_f32(acc, vreinterpretq_bf16_u8(a), vreinterpretq_bf16_u8(b));
  }
  static void store(uint16_t* out, Vec x) { vst1_u16(out, vreinterpret_u16_bf16(vcvt_bf16_f32(x))); }
};

void bf16_gemm(const LowGemmArgs& args, int64_t m0, int64_t m1, int64_t p0, int64_t p1) {
  low_gemm<Bf16Format<Bf16Dot>>(args, m0, m1, p0, p1);
}

}  // namespace
}  // namespace nd::neon_bf16_dot

namespace nd {
using namespace neon_bf16_dot;
const LowMatrix neon_bf16 = {2,
                             2,
                             1024,
                             0,
                             low_panel_bytes<Bf16Format<Bf16Dot>>,
                             bf16_pack_panel,
                             low_convert_rows<Bf16Rows<Bf16Dot>>,
                             bf16_gemm,
                             nullptr};
}  // namespace nd
