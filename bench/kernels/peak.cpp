#include "peak.h"

#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace nd::bench {

namespace {

// Eight chains hide a latency of four cycles at two a cycle; twelve leave room. The empty asm keeps the
// compiler from folding the rounds together and the values in registers.
#define ND_CHAINS(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)

#if defined(__x86_64__)
__attribute__((target("avx512f"))) int64_t rounds_avx512(int64_t rounds) {
  const __m512 x = _mm512_set1_ps(0.5f);
#define ND_SET(i) __m512 s##i = _mm512_set1_ps(i);
#define ND_FMA(i) s##i = _mm512_fmadd_ps(s##i, x, x);
#define ND_KEEP(i) asm volatile("" : "+v"(s##i));
  ND_CHAINS(ND_SET)
  for (int64_t r = 0; r < rounds; ++r) {
    ND_CHAINS(ND_FMA)
    ND_CHAINS(ND_KEEP)
  }
#undef ND_SET
#undef ND_FMA
#undef ND_KEEP
  return rounds * 12 * 16 * 2;
}

__attribute__((target("avx2,fma"))) int64_t rounds_avx2(int64_t rounds) {
  const __m256 x = _mm256_set1_ps(0.5f);
#define ND_SET(i) __m256 s##i = _mm256_set1_ps(i);
#define ND_FMA(i) s##i = _mm256_fmadd_ps(s##i, x, x);
#define ND_KEEP(i) asm volatile("" : "+x"(s##i));
  ND_CHAINS(ND_SET)
  for (int64_t r = 0; r < rounds; ++r) {
    ND_CHAINS(ND_FMA)
    ND_CHAINS(ND_KEEP)
  }
#undef ND_SET
#undef ND_FMA
#undef ND_KEEP
  return rounds * 12 * 8 * 2;
}
#elif defined(__aarch64__)
int64_t rounds_neon(int64_t rounds) {
  const float32x4_t x = vdupq_n_f32(0.5f);
#define ND_SET(i) float32x4_t s##i = vdupq_n_f32(i);
#define ND_FMA(i) s##i = vfmaq_f32(x, s##i, x);
#define ND_KEEP(i) asm volatile("" : "+w"(s##i));
  ND_CHAINS(ND_SET)
  for (int64_t r = 0; r < rounds; ++r) {
    ND_CHAINS(ND_FMA)
    ND_CHAINS(ND_KEEP)
  }
#undef ND_SET
#undef ND_FMA
#undef ND_KEEP
  return rounds * 12 * 4 * 2;
}
#endif

}  // namespace

int64_t multiply_add(const char* table, int64_t rounds) {
#if defined(__x86_64__)
  if (!std::strcmp(table, "avx512")) return rounds_avx512(rounds);
  if (!std::strcmp(table, "avx2")) return rounds_avx2(rounds);
#elif defined(__aarch64__)
  if (!std::strcmp(table, "neon")) return rounds_neon(rounds);
#endif
  (void)table;
  (void)rounds;
  return 0;
}

}  // namespace nd::bench
