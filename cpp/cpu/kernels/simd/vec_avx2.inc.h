// Vectors of 8 floats in ymm registers. The names are documented in vec_avx512.inc.h.
#define ND_TILE_VECS 2  // 6 × 2 accumulators, 2 vectors of weights, 1 broadcast: 15 of 16 registers

namespace nd::cpu::ND_ISA {
namespace {

using Vec = __m256;
constexpr int kLanes = 8;
constexpr int kTileVecs = ND_TILE_VECS;
constexpr int kKBlock = 512;  // × 64 columns × 4 bytes: 128 KB of weights, for L2 caches from 256 KB
// Rows of a tile (6 × 512 floats, in L1) are multiplied by 64 columns before the next tile.
constexpr int kGroupPanels = 4;
constexpr int kAtOnce = 4;  // a coefficient is loaded for four vectors

inline Vec zero() {
  return _mm256_setzero_ps();
}
inline Vec set1(float x) {
  return _mm256_set1_ps(x);
}
alignas(32) constexpr int32_t kMasks[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
inline __m256i first(int64_t n) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kMasks + 8 - n));
}
inline Vec load(const float* p) {
  return _mm256_loadu_ps(p);
}
inline Vec load_n(const float* p, int64_t n) {
  return _mm256_maskload_ps(p, first(n));
}
inline void store(float* p, Vec x) {
  _mm256_storeu_ps(p, x);
}
inline void store_n(float* p, Vec x, int64_t n) {
  _mm256_maskstore_ps(p, first(n), x);
}
inline Vec load_fp16(const uint16_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline Vec load_bfloat16(const uint16_t* p) {
  const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}

inline Vec add(Vec a, Vec b) {
  return _mm256_add_ps(a, b);
}
inline Vec sub(Vec a, Vec b) {
  return _mm256_sub_ps(a, b);
}
inline Vec mul(Vec a, Vec b) {
  return _mm256_mul_ps(a, b);
}
inline Vec div(Vec a, Vec b) {
  return _mm256_div_ps(a, b);
}
inline Vec fma(Vec a, Vec b, Vec c) {
  return _mm256_fmadd_ps(a, b, c);
}
inline Vec fnma(Vec a, Vec b, Vec c) {
  return _mm256_fnmadd_ps(a, b, c);
}
inline Vec max(Vec a, Vec b) {
  return _mm256_max_ps(a, b);
}
inline Vec min(Vec a, Vec b) {
  return _mm256_min_ps(a, b);
}
inline Vec abs(Vec a) {
  return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}
inline Vec round(Vec a) {
  return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline Vec scale2(Vec p, Vec n, Vec t, Vec limit) {
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  const Vec scaled = _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
  return _mm256_and_ps(scaled, _mm256_cmp_ps(t, limit, _CMP_NLT_UQ));
}

inline float sum(Vec a) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_shuffle_ps(half, half, 1)));
}

inline const float* in_memory(const float* constants) {
  asm("" : "+r"(constants));
  return constants;
}

inline void transpose(Vec (&r)[kLanes]) {
  Vec t[kLanes];
  for (int i = 0; i < 8; i += 4) {  // 4×4 blocks within each 128-bit half
    const Vec ab0 = _mm256_unpacklo_ps(r[i], r[i + 1]), ab1 = _mm256_unpackhi_ps(r[i], r[i + 1]);
    const Vec cd0 = _mm256_unpacklo_ps(r[i + 2], r[i + 3]), cd1 = _mm256_unpackhi_ps(r[i + 2], r[i + 3]);
    t[i] = _mm256_shuffle_ps(ab0, cd0, 0x44);
    t[i + 1] = _mm256_shuffle_ps(ab0, cd0, 0xee);
    t[i + 2] = _mm256_shuffle_ps(ab1, cd1, 0x44);
    t[i + 3] = _mm256_shuffle_ps(ab1, cd1, 0xee);
  }
  for (int i = 0; i < 4; ++i) {  // then the halves
    r[i] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x20);
    r[i + 4] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x31);
  }
}

}  // namespace
}  // namespace nd::cpu::ND_ISA
