// bfloat16 products with FEAT_BF16 (bfmmla, which computes twice as many products in one instruction as
// bfdot).
#define ND_ISA bf16_neon
#include "cpu/kernels/simd/reduced_neon.inc.h"
#include "cpu/kernels/simd/reduced_tiles_mmla.inc.h"
#include "cpu/kernels/simd/winograd.inc.h"

namespace nd::cpu::ND_ISA {
namespace {

struct Bf16Matrix {
  using Acc = float32x4_t;
  static Acc none() { return zero(); }
  static void multiply(Acc& acc, Words rows, Words columns) {
    asm volatile("bfmmla %0.4s, %1.8h, %2.8h" : "+w"(acc) : "w"(rows), "w"(columns));
  }
  static Vec to_float(Acc acc) { return acc; }
  static void store(uint16_t* out, Vec x) { vst1_u16(out, vreinterpret_u16_bf16(vcvt_bf16_f32(x))); }
};

void bf16_winograd_input(const float* x, const int64_t* offset, int64_t tiles, int64_t c, int64_t row,
                         int64_t padded, int64_t, void* out, float*) {
  ND_ASSERT(x && offset && out && padded >= c && c > 0 && padded % kLanes == 0);
  uint16_t* to = static_cast<uint16_t*>(out);
  for (int64_t t = 0; t < tiles; ++t)
    for (int64_t j = 0; j < padded; j += kLanes)
      winograd_input_tile(x + offset[t] + j, c, row, min(kLanes, c - j), [&](int64_t position, Vec v) {
        Bf16Matrix::store(to + (position * tiles + t) * padded + j, v);
      });
}

constexpr ReducedGemm make_table() {
  constexpr int64_t kMultiple = kDepthBytes / 2;
  static_assert(kMultiple % kLanes == 0, "bf16_winograd_input writes whole vectors");
  ReducedGemm table = bf16_table<Bf16MatrixFormat<Bf16Matrix>, Bf16Converter<Bf16Matrix>, kMultiple>();
  table.winograd_input = bf16_winograd_input;
  return table;
}

}  // namespace
}  // namespace nd::cpu::ND_ISA

namespace nd::cpu {
constexpr ReducedGemm neon_bf16 = bf16_neon::make_table();
}  // namespace nd::cpu
