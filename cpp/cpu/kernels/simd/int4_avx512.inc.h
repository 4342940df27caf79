// int4.inc.h in AVX-512 instructions: eleven for 64 weights.
namespace nd::cpu::ND_ISA {
namespace {

/// The int8 weights of 64 four-bit values, which come as 16-bit words: the even and the odd ones of each
/// pair. The results are the upper halves of the words.
inline __m512i int4_bytes(__m512i even, __m512i odd, __m512i factor, __m512i offset) {
  const __m512i low = _mm512_srli_epi16(_mm512_add_epi16(_mm512_mullo_epi16(even, factor), offset), 8);
  const __m512i high = _mm512_add_epi16(_mm512_mullo_epi16(odd, factor), offset);
  return _mm512_mask_blend_epi8(0xaaaaaaaaaaaaaaaa, low, high);
}

/// Sixteen 16-bit words, each twice.
inline __m512i twice(const uint8_t* p) {
  const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  const __m512i wide = _mm512_maskz_cvtepu16_epi32(0xffff, words);
  return _mm512_or_si512(wide, _mm512_maskz_slli_epi32(0xffff, wide, 16));
}

template <bool Offsets>
void expand_panel(const uint8_t* packed, const KGroup* groups, int64_t group_count, uint8_t* panel) {
  constexpr int64_t kHeader = int4_header_bytes(kNr), kBytes = 4 * kNr;
  constexpr int kVecs = static_cast<int>(kBytes / 64);
  const __m512i low_bits = _mm512_set1_epi16(15);
  for (int64_t g = 0; g < group_count; ++g) {
    __builtin_memcpy(panel, packed, kHeader);
    packed += kHeader;
    panel += kHeader;
    for (int64_t i = 0; i < groups[g].length; i += kInt4Block) {
      __m512i factor[kVecs], offset[kVecs];
#pragma GCC unroll 8
      for (int v = 0; v < kVecs; ++v) {
        factor[v] = twice(packed + 32 * v);
        offset[v] = Offsets ? twice(packed + 2 * kNr + 32 * v)
                            : _mm512_sub_epi16(_mm512_set1_epi16(128), _mm512_slli_epi16(factor[v], 3));
      }
      packed += (Offsets ? 4 : 2) * kNr;
      for (int64_t k = 0; k < kInt4Block; k += 8, packed += kBytes, panel += 2 * kBytes) {
#pragma GCC unroll 8
        for (int v = 0; v < kVecs; ++v) {
          const __m512i x = _mm512_loadu_si512(packed + 64 * v);
          if (v % 2 == 0) __builtin_prefetch(packed + 2048 + 64 * v);
          if (v % 2 == 0) __builtin_prefetch(packed + 2112 + 64 * v);
          const __m512i odd = _mm512_srli_epi16(x, 8);
          const __m512i low = int4_bytes(_mm512_and_si512(x, low_bits), _mm512_and_si512(odd, low_bits),
                                         factor[v], offset[v]);
          const __m512i high = int4_bytes(_mm512_and_si512(_mm512_srli_epi16(x, 4), low_bits),
                                          _mm512_srli_epi16(x, 12), factor[v], offset[v]);
          _mm512_storeu_si512(panel + 64 * v, low);
          _mm512_storeu_si512(panel + kBytes + 64 * v, high);
        }
      }
    }
  }
}

void expand_int4(const uint8_t* packed, bool offsets, const KGroup* groups, int64_t group_count,
                 uint8_t* panel) {
  ND_ASSERT(packed && is_aligned(panel) && are_multiples(groups, group_count, kInt4Block));
  if (offsets) return expand_panel<true>(packed, groups, group_count, panel);
  return expand_panel<false>(packed, groups, group_count, panel);
}

}  // namespace
}  // namespace nd::cpu::ND_ISA
