#include "peak.h"

#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace nd::cpu::bench {

namespace {

// Eight chains hide a latency of four cycles at two instructions per cycle; twelve leave room. The empty asm
// keeps the compiler from merging rounds, and the values in registers.
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

// The dot products are inline asm, as GCC 12 spills the accumulators of the intrinsics, and so that the file
// needs no flags for AVX512-BF16.
#define ND_SET(i) __m512i s##i = _mm512_setzero_si512();
#define ND_DOT(i) asm volatile(ND_NAME " %1, %1, %0" : "+v"(s##i) : "v"(x));
__attribute__((target("avx512f"))) int64_t rounds_avx512_i8(int64_t rounds) {
  const __m512i x = _mm512_setzero_si512();
  ND_CHAINS(ND_SET)
#define ND_NAME "vpdpbusd"
  for (int64_t r = 0; r < rounds; ++r) {
    ND_CHAINS(ND_DOT)
  }
#undef ND_NAME
  return rounds * 12 * 64 * 2;
}
__attribute__((target("avx512f"))) int64_t rounds_avx512_bf16(int64_t rounds) {
  const __m512i x = _mm512_setzero_si512();
  ND_CHAINS(ND_SET)
#define ND_NAME "vdpbf16ps"
  for (int64_t r = 0; r < rounds; ++r) {
    ND_CHAINS(ND_DOT)
  }
#undef ND_NAME
  return rounds * 12 * 32 * 2;
}
#undef ND_SET
#undef ND_DOT
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

// The dot products are inline asm, so that this file needs no flags of its own.
#define ND_SET(i) int32x4_t s##i = vdupq_n_s32(0);
#define ND_DOT(i) asm volatile(".arch armv8.6-a\n" ND_NAME : "+w"(s##i) : "w"(x));
#define ND_ROUNDS(name, operations)        \
  int64_t name(int64_t rounds) {           \
    const int32x4_t x = vdupq_n_s32(0);    \
    ND_CHAINS(ND_SET)                      \
    for (int64_t r = 0; r < rounds; ++r) { \
      ND_CHAINS(ND_DOT)                    \
    }                                      \
    return rounds * 12 * (operations)*2;   \
  }
#define ND_NAME "sdot %0.4s, %1.16b, %1.16b"
ND_ROUNDS(rounds_neon_sdot, 16)
#undef ND_NAME
#define ND_NAME "usmmla %0.4s, %1.16b, %1.16b"
ND_ROUNDS(rounds_neon_usmmla, 32)
#undef ND_NAME
#define ND_NAME "bfmmla %0.4s, %1.8h, %1.8h"
ND_ROUNDS(rounds_neon_bfmmla, 16)
#undef ND_NAME
#undef ND_ROUNDS
#undef ND_SET
#undef ND_DOT
#endif

}  // namespace

/// Whether a table is `name` or a variant of it ("neon-i8mm" of "neon").
static bool is(const char* table, const char* name) {
  return !std::strncmp(table, name, std::strlen(name));
}

int64_t multiply_add(const char* table, int64_t rounds) {
#if defined(__x86_64__)
  if (is(table, "avx512")) return rounds_avx512(rounds);
  if (is(table, "avx2")) return rounds_avx2(rounds);
#elif defined(__aarch64__)
  if (is(table, "neon")) return rounds_neon(rounds);
#endif
  (void)table;
  (void)rounds;
  return 0;
}

int64_t dot_i8(const char* table, int64_t rounds) {
#if defined(__x86_64__)
  if (is(table, "avx512")) return rounds_avx512_i8(rounds);
#elif defined(__aarch64__)
  if (is(table, "neon-i8mm")) return rounds_neon_usmmla(rounds);
  if (is(table, "neon-dotprod")) return rounds_neon_sdot(rounds);
#endif
  (void)table;
  (void)rounds;
  return 0;
}

int64_t dot_bf16(const char* table, int64_t rounds) {
#if defined(__x86_64__)
  if (is(table, "avx512")) return rounds_avx512_bf16(rounds);
#elif defined(__aarch64__)
  if (is(table, "neon")) return rounds_neon_bfmmla(rounds);
#endif
  (void)table;
  (void)rounds;
  return 0;
}

}  // namespace nd::cpu::bench
