// What the reduced-precision products of AVX-512 share.
namespace nd::cpu::ND_ISA {
namespace {

// GCC 12 copies and spills the accumulators of the dot-product intrinsics. The dot products of the including
// files are inline asm whose accumulator is a read-write operand, which keeps them in registers.

using Words = __m512i;
inline Words broadcast_word(const uint8_t* p) {
  int32_t x;
  __builtin_memcpy(&x, p, 4);
  return _mm512_set1_epi32(x);
}
inline Words load_words(const uint8_t* p) {
  return _mm512_loadu_si512(p);
}

/// Writes sixteen rows of `words` ≤ 16 32-bit words (pairs or quadruples of a dot product) to a panel.
inline void transpose_words(const __m512i* rows, int64_t words, uint8_t* out) {
  Vec block[kLanes];
  for (int i = 0; i < kLanes; ++i) block[i] = _mm512_castsi512_ps(rows[i]);
  transpose(block);
  for (int i = 0; i < words; ++i) store(reinterpret_cast<float*>(out + i * kNr * 4), block[i]);
}

/// The highest lane. GCC 12 warns of an uninitialized operand inside _mm512_reduce_max_ps.
inline float highest_lane(Vec a) {
  const __m256 half =
      _mm256_max_ps(_mm512_maskz_extractf32x8_ps(0xff, a, 0), _mm512_maskz_extractf32x8_ps(0xff, a, 1));
  __m128 quarter = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  quarter = _mm_max_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_max_ss(quarter, _mm_shuffle_ps(quarter, quarter, 1)));
}

template <bool Affine, bool Silu>
inline Vec affine_silu(const float* x, const float* scale, const float* shift, int64_t n) {
  Vec v = load_n(x, n);
  if (Affine) v = fma(v, load_n(scale, n), load_n(shift, n));
  return Silu ? activated<Activation::silu>(v) : v;
}

}  // namespace
}  // namespace nd::cpu::ND_ISA
