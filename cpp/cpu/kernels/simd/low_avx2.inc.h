// int8 products of 256-bit vectors. The including file defines ND_ISA and I8's dot product: with AVX-VNNI one
// instruction; without, vpmaddubsw adds two products in 16 bits, which hold them only if activations have
// seven bits.
#include <immintrin.h>

#include "cpu/kernels/int4.h"
#include "cpu/kernels/tables.h"

#define ND_TILE_VECS 2
namespace nd::cpu::ND_ISA {
namespace {

#include "cpu/kernels/simd/vec_avx2.h"
#include "cpu/kernels/simd/math.inc.h"
#include "cpu/kernels/simd/layout.inc.h"
#include "cpu/kernels/simd/elementwise.inc.h"
#include "cpu/kernels/simd/gemm.inc.h"
#include "cpu/kernels/simd/low_gemm.inc.h"

struct I8Dot {
  using Acc = __m256i;
  static constexpr float kShift = 0.0f;
  static Acc none() { return _mm256_setzero_si256(); }
  static Vec to_float(Acc acc) { return _mm256_cvtepi32_ps(acc); }
  static void store(uint8_t* out, Vec x) {
    const __m256i whole = _mm256_cvtps_epi32(x);
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out), _mm_packus_epi16(words, words));
  }
#ifdef ND_VNNI
  static constexpr float kSteps = 255.0f;
  static void dot(Acc& acc, __m256i a, __m256i b) {
    asm(ND_VNNI " vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(a), "x"(b));
  }
#else
  static constexpr float kSteps = 127.0f;
  static void dot(Acc& acc, __m256i a, __m256i b) {
    const __m256i pairs = _mm256_maddubs_epi16(a, b);
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
#endif
};

using Words = __m256i;
inline Words broadcast_word(const uint8_t* p) {
  int32_t x;
  __builtin_memcpy(&x, p, 4);
  return _mm256_set1_epi32(x);
}
inline Words load_words(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

#include "cpu/kernels/simd/low_tiles.inc.h"
#include "cpu/kernels/simd/low_rows.inc.h"
#include "cpu/kernels/simd/int4.inc.h"

void i8_gemm(const ReducedGemmArgs& args, int64_t m0, int64_t m1, int64_t p0, int64_t p1) {
  low_gemm<I8Format<I8Dot>>(args, m0, m1, p0, p1);
}

}  // namespace

static constexpr ReducedGemm make_i8() {
  return {1,
          4,
          kPiece,
          2,
          low_panel_bytes<I8Format<I8Dot>>,
          i8_pack_panel<4>,
          low_convert_rows<I8Rows<I8Dot>>,
          i8_gemm,
          nullptr,
          i8_expand<4>};
}

}  // namespace nd::cpu::ND_ISA
