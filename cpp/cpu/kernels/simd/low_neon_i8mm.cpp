// int8 products with FEAT_I8MM (usmmla: unsigned activations, signed weights): twice sdot's products in one
// instruction.
#define ND_ISA neon_i8mm_isa
#include "cpu/kernels/simd/low_neon.inc.h"

namespace nd::cpu::ND_ISA {
namespace {

#include "cpu/kernels/simd/low_mmla.inc.h"

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

void i8_gemm(const ReducedGemmArgs& args, int64_t m0, int64_t m1, int64_t p0, int64_t p1) {
  low_gemm<I8MatrixFormat<I8Matrix>>(args, m0, m1, p0, p1);
}

}  // namespace
}  // namespace nd::cpu::ND_ISA

namespace nd::cpu {
using namespace ND_ISA;
const ReducedGemm neon_i8mm = {1,
                               kDepthBytes,
                               kPiece,
                               2,
                               low_panel_bytes<I8MatrixFormat<I8Matrix>>,
                               i8_pack_panel<kDepthBytes>,
                               low_convert_rows<I8Rows<I8Matrix>>,
                               i8_gemm,
                               nullptr,
                               i8_expand<kDepthBytes>};
}  // namespace nd::cpu
