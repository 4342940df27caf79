// bfloat16 products with FEAT_BF16 (bfmmla, which has twice bfdot's products in one instruction).
#define ND_ISA neon_bf16_isa
#include "cpu/kernels/simd/low_neon.inc.h"

namespace nd::cpu::ND_ISA {
namespace {

#include "cpu/kernels/simd/low_mmla.inc.h"
#include "cpu/kernels/simd/winograd.inc.h"

struct Bf16Matrix {
  using Acc = float32x4_t;
  static Acc none() { return zero(); }
  static void multiply(Acc& acc, Words rows, Words columns) {
    asm volatile("bfmmla %0.4s, %1.8h, %2.8h" : "+w"(acc) : "w"(rows), "w"(columns));
  }
  static Vec to_float(Acc acc) { return acc; }
  static void store(uint16_t* out, Vec x) { vst1_u16(out, vreinterpret_u16_bf16(vcvt_bf16_f32(x))); }
};

void bf16_gemm(const ReducedGemmArgs& args, int64_t m0, int64_t m1, int64_t p0, int64_t p1) {
  low_gemm<Bf16MatrixFormat<Bf16Matrix>>(args, m0, m1, p0, p1);
}

void bf16_winograd_input(const float* x, const int64_t* offset, int64_t tiles, int64_t c, int64_t row,
                         int64_t padded, int64_t, void* out, float*) {
  uint16_t* to = static_cast<uint16_t*>(out);
  for (int64_t t = 0; t < tiles; ++t)
    for (int64_t j = 0; j < padded; j += kLanes)  // padded is a multiple of kLanes, c need not be
      winograd_in_tile(x + offset[t] + j, c, row, least(kLanes, c - j), [&](int64_t position, Vec v) {
        Bf16Matrix::store(to + (position * tiles + t) * padded + j, v);
      });
}

}  // namespace
}  // namespace nd::cpu::ND_ISA

namespace nd::cpu {
using namespace ND_ISA;
const ReducedGemm neon_bf16 = {2,
                               kDepthBytes / 2,
                               1024,
                               0,
                               low_panel_bytes<Bf16MatrixFormat<Bf16Matrix>>,
                               bf16_pack_panel<kDepthBytes / 2>,
                               low_convert_rows<Bf16Rows<Bf16Matrix>>,
                               bf16_gemm,
                               bf16_winograd_input};
static_assert(kDepthBytes / 2 % kLanes == 0, "bf16_winograd_input writes whole vectors");
}  // namespace nd::cpu
