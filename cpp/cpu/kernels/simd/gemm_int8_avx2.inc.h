// int8 products of 256-bit vectors. The including file defines ND_ISA and, where the CPU has the instruction,
// ND_VNNI: the prefix that chooses its encoding. With VNNI a dot product is one instruction; without it,
// vpmaddubsw adds two products in 16 bits, which hold them only if activations have seven bits.
#define ND_VECTOR "cpu/kernels/simd/vec_avx2.inc.h"
#include "cpu/kernels/simd/prelude.inc.h"
#include "cpu/kernels/simd/gemm.inc.h"
#include "cpu/kernels/simd/reduced_gemm.inc.h"

namespace nd::cpu::ND_ISA {
namespace {

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

}  // namespace
}  // namespace nd::cpu::ND_ISA

#include "cpu/kernels/simd/reduced_tiles.inc.h"
#include "cpu/kernels/simd/reduced_rows.inc.h"
#include "cpu/kernels/simd/int4.inc.h"

namespace nd::cpu::ND_ISA {
namespace {

constexpr ReducedGemm make_table() {
  ReducedGemm table = int8_table<I8Format<I8Dot>, I8Converter<I8Dot>, 4>();
  table.expand_int4 = expand_int4<4>;
  return table;
}

}  // namespace
}  // namespace nd::cpu::ND_ISA
