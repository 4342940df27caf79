// Vectors of 16 floats in zmm registers. vec_avx2.inc.h and vec_neon.inc.h define the same names.
#define ND_TILE_VECS 4  // vectors across a register tile: kTileRows × 4 accumulators, 24 of 32 registers
#define ND_GELU_TABLE   // a register holds the table of gelu_avx512.inc.h

namespace nd::cpu::ND_ISA {
namespace {

using Vec = __m512;
constexpr int kLanes = 16;
constexpr int kTileVecs = ND_TILE_VECS;
constexpr int kKBlock = 1024;  // × 64 columns × 4 bytes: 256 KB of weights in a 1 MB L2
constexpr int kGroupPanels = 1;
// Vectors in a step of an activation function, whose coefficients lie in registers.
constexpr int kAtOnce = 1;

// Some intrinsics are used in their zero-masking form with every lane enabled, as GCC 12 warns of an
// uninitialized operand inside the plain form. The mask compiles to nothing.
inline Vec zero() {
  return _mm512_setzero_ps();
}
inline Vec set1(float x) {
  return _mm512_set1_ps(x);
}
/// A mask of the first n lanes.
inline __mmask16 first(int64_t n) {
  return static_cast<__mmask16>((1u << n) - 1);
}
inline Vec load(const float* p) {
  return _mm512_loadu_ps(p);
}
/// The first n lanes; the others are zero, and their memory is not read.
inline Vec load_n(const float* p, int64_t n) {
  return _mm512_maskz_loadu_ps(first(n), p);
}
inline void store(float* p, Vec x) {
  _mm512_storeu_ps(p, x);
}
inline void store_n(float* p, Vec x, int64_t n) {
  _mm512_mask_storeu_ps(p, first(n), x);
}
inline Vec load_fp16(const uint16_t* p) {
  return _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline Vec load_bfloat16(const uint16_t* p) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(0xffff, _mm512_maskz_cvtepu16_epi32(0xffff, bits), 16));
}

inline Vec add(Vec a, Vec b) {
  return _mm512_add_ps(a, b);
}
inline Vec sub(Vec a, Vec b) {
  return _mm512_sub_ps(a, b);
}
inline Vec mul(Vec a, Vec b) {
  return _mm512_mul_ps(a, b);
}
inline Vec div(Vec a, Vec b) {
  return _mm512_div_ps(a, b);
}
inline Vec fma(Vec a, Vec b, Vec c) {
  return _mm512_fmadd_ps(a, b, c);
}
inline Vec fnma(Vec a, Vec b, Vec c) {
  return _mm512_fnmadd_ps(a, b, c);
}
// If an operand is NaN, min and max return b: pass constants as a.
inline Vec max(Vec a, Vec b) {
  return _mm512_maskz_max_ps(0xffff, a, b);
}
inline Vec min(Vec a, Vec b) {
  return _mm512_maskz_min_ps(0xffff, a, b);
}
inline Vec abs(Vec a) {
  return _mm512_castsi512_ps(_mm512_and_epi32(_mm512_castps_si512(a), _mm512_set1_epi32(0x7fffffff)));
}
inline Vec round(Vec a) {
  return _mm512_maskz_roundscale_ps(0xffff, a, _MM_FROUND_TO_NEAREST_INT);
}
/// p·2ⁿ for whole n ≤ 128 (128 may give infinity), but 0 where t < limit. If t is NaN, the result is p·2ⁿ.
inline Vec scale2(Vec p, Vec n, Vec t, Vec limit) {
  return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(t, limit, _CMP_NLT_UQ), p, n);
}

/// The sum of all lanes.
inline float sum(Vec a) {
  const __m256 half =
      _mm256_add_ps(_mm512_maskz_extractf32x8_ps(0xff, a, 0), _mm512_maskz_extractf32x8_ps(0xff, a, 1));
  __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  quarter = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_add_ss(quarter, _mm_shuffle_ps(quarter, quarter, 1)));
}

/// The address of `constants`. Where registers do not hold them all, compilers must not know what they are:
/// Clang would copy them, load each by an instruction of its own, and keep other values in memory instead.
inline const float* in_memory(const float* constants) {
  return constants;
}

/// Exchanges row i, lane j with row j, lane i.
inline void transpose(Vec (&r)[kLanes]) {
  Vec t[kLanes];
  for (int i = 0; i < 16; i += 4) {  // 4×4 blocks within each 128-bit quarter
    const Vec ab0 = _mm512_maskz_unpacklo_ps(0xffff, r[i], r[i + 1]);
    const Vec ab1 = _mm512_maskz_unpackhi_ps(0xffff, r[i], r[i + 1]);
    const Vec cd0 = _mm512_maskz_unpacklo_ps(0xffff, r[i + 2], r[i + 3]);
    const Vec cd1 = _mm512_maskz_unpackhi_ps(0xffff, r[i + 2], r[i + 3]);
    t[i] = _mm512_maskz_shuffle_ps(0xffff, ab0, cd0, 0x44);
    t[i + 1] = _mm512_maskz_shuffle_ps(0xffff, ab0, cd0, 0xee);
    t[i + 2] = _mm512_maskz_shuffle_ps(0xffff, ab1, cd1, 0x44);
    t[i + 3] = _mm512_maskz_shuffle_ps(0xffff, ab1, cd1, 0xee);
  }
  for (int i = 0; i < 4; ++i) {  // then the quarters among themselves
    const Vec low01 = _mm512_maskz_shuffle_f32x4(0xffff, t[i], t[i + 4], 0x88);
    const Vec high01 = _mm512_maskz_shuffle_f32x4(0xffff, t[i], t[i + 4], 0xdd);
    const Vec low23 = _mm512_maskz_shuffle_f32x4(0xffff, t[i + 8], t[i + 12], 0x88);
    const Vec high23 = _mm512_maskz_shuffle_f32x4(0xffff, t[i + 8], t[i + 12], 0xdd);
    r[i] = _mm512_maskz_shuffle_f32x4(0xffff, low01, low23, 0x88);
    r[i + 4] = _mm512_maskz_shuffle_f32x4(0xffff, high01, high23, 0x88);
    r[i + 8] = _mm512_maskz_shuffle_f32x4(0xffff, low01, low23, 0xdd);
    r[i + 12] = _mm512_maskz_shuffle_f32x4(0xffff, high01, high23, 0xdd);
  }
}

}  // namespace
}  // namespace nd::cpu::ND_ISA
