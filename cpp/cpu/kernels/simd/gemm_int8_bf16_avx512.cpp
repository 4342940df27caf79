// bfloat16 and int8 products for CPUs with AVX512-BF16 and AVX512-VNNI.
#define ND_ISA reduced_avx512
#define ND_VECTOR "cpu/kernels/simd/vec_avx512.inc.h"
#include "cpu/kernels/simd/prelude.inc.h"
#include "cpu/kernels/simd/gemm.inc.h"
#include "cpu/kernels/simd/reduced_gemm.inc.h"
#include "cpu/kernels/simd/reduced_avx512.inc.h"
#include "cpu/kernels/simd/int4_avx512.inc.h"
#include "cpu/kernels/simd/winograd.inc.h"

namespace nd::cpu::ND_ISA {
namespace {

/// Pairs of bfloat16: acc += a₀·b₀ + a₁·b₁ in each lane.
struct Bf16Dot {
  using Acc = __m512;
  static void dot(Acc& acc, __m512i a, __m512i b) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
  }
};

/// Quadruples of unsigned activations and signed weights.
struct I8Dot {
  using Acc = __m512i;
  static Acc none() { return _mm512_setzero_si512(); }
  static void dot(Acc& acc, __m512i a, __m512i b) { asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b)); }
  static Vec to_float(Acc acc) { return _mm512_maskz_cvtepi32_ps(0xffff, acc); }
};

}  // namespace
}  // namespace nd::cpu::ND_ISA

#include "cpu/kernels/simd/reduced_tiles.inc.h"

namespace nd::cpu::ND_ISA {
namespace {

// --- weights ---

int64_t bf16_panel_bytes(const KGroup* groups, int64_t count) {
  int64_t bytes = 0;
  for (int64_t g = 0; g < count; ++g) bytes += Bf16Format<Bf16Dot>::group_bytes(groups[g]);
  return bytes;
}

/// Sixteen floats rounded to bfloat16, to nearest, ties to even.
inline __m256i to_bfloat16(Vec x) {
  return reinterpret_cast<__m256i>(_mm512_maskz_cvtneps_pbh(0xffff, x));
}

void bf16_pack_panel(const float* const* rows, int64_t count, const KGroup* groups, int64_t group_count,
                     uint8_t* panel) {
  ND_ASSERT(0 < count && count <= kNr && is_aligned(panel));
  ND_ASSERT(are_multiples(groups, group_count, 2));
  int64_t k = 0;
  for (int64_t g = 0; g < group_count; ++g) k += groups[g].length;
  for (int64_t column = 0; column < kNr; column += kLanes)
    for (int64_t i = 0; i < k; i += 2 * kLanes) {
      __m512i words[kLanes];
      const int64_t left = min(2 * kLanes, k - i);
      for (int r = 0; r < kLanes; ++r) {
        words[r] = _mm512_setzero_si512();
        if (column + r >= count) continue;
        const float* row = rows[column + r] + i;
        const Vec low = load_n(row, min(left, kLanes));
        const Vec high = left > kLanes ? load_n(row + kLanes, left - kLanes) : zero();
        words[r] =
            _mm512_maskz_inserti64x4(0xff, _mm512_castsi256_si512(to_bfloat16(low)), to_bfloat16(high), 1);
      }
      transpose_words(words, left / 2, panel + i * 2 * kNr + column * 4);
    }
}

int64_t i8_panel_bytes(const KGroup* groups, int64_t count) {
  int64_t bytes = 0;
  for (int64_t g = 0; g < count; ++g) bytes += I8Format<I8Dot>::group_bytes(groups[g]);
  return bytes;
}

/// The largest magnitude; NaN if a value is NaN or infinite.
inline float largest_magnitude(const float* x, int64_t count) {
  Vec largest = zero(), check = zero();
  for (int64_t i = 0; i < count; i += kLanes) {
    const Vec v = load_n(x + i, min(kLanes, count - i));
    largest = max(abs(v), largest);
    check = fma(v, zero(), check);  // NaN where v is NaN or infinite
  }
  return highest_lane(largest) + sum(check);
}

/// Sixty-four floats · inverse, rounded to nearest, as signed bytes; those beyond `count` are zero.
inline __m512i to_signed_bytes(const float* x, int64_t count, Vec inverse) {
  __m128i part[4];
  for (int i = 0; i < 4; ++i) {
    const int64_t left = count - i * kLanes;
    const Vec v = left > 0 ? load_n(x + i * kLanes, min(kLanes, left)) : zero();
    part[i] = _mm512_maskz_cvtsepi32_epi8(0xffff, _mm512_maskz_cvtps_epi32(0xffff, mul(v, inverse)));
  }
  const __m256i low = _mm256_set_m128i(part[1], part[0]), high = _mm256_set_m128i(part[3], part[2]);
  return _mm512_maskz_inserti64x4(0xff, _mm512_castsi256_si512(low), high, 1);
}

void i8_pack_panel(const float* const* rows, int64_t count, const KGroup* groups, int64_t group_count,
                   uint8_t* panel) {
  ND_ASSERT(0 < count && count <= kNr && is_aligned(panel));
  ND_ASSERT(are_multiples(groups, group_count, 4));
  int64_t first_k = 0;
  for (int64_t g = 0; g < group_count; ++g) {
    const int64_t length = groups[g].length;
    float* scales = reinterpret_cast<float*>(panel);
    float* weight_sums = scales + kNr;
    uint8_t* bytes = panel + kNr * 8;
    for (int64_t column = 0; column < kNr; column += kLanes) {
      Vec inverse[kLanes];
      __m512i totals[kLanes];
      for (int r = 0; r < kLanes; ++r) {
        const float largest =
            column + r < count ? largest_magnitude(rows[column + r] + first_k, length) : 0.0f;
        scales[column + r] = largest / 127.0f;
        inverse[r] = set1(largest >= kMinWeight ? 127.0f / largest : 0.0f);
        totals[r] = _mm512_setzero_si512();
      }
      for (int64_t i = 0; i < length; i += 64) {
        __m512i words[kLanes];
        const int64_t left = min(64, length - i);
        for (int r = 0; r < kLanes; ++r) {
          words[r] = column + r < count ? to_signed_bytes(rows[column + r] + first_k + i, left, inverse[r])
                                        : _mm512_setzero_si512();
          I8Dot::dot(totals[r], _mm512_set1_epi8(1), words[r]);
        }
        transpose_words(words, left / 4, bytes + i * kNr + column * 4);
      }
      for (int r = 0; r < kLanes; ++r)
        weight_sums[column + r] = scales[column + r] * sum(I8Dot::to_float(totals[r]));
    }
    panel += (8 + length) * kNr;
    first_k += length;
  }
}

// --- activations ---

// The longest int8 group, and how many channels are converted at a time: their floats stay in L1.
constexpr int64_t kMaxGroup = 512;

template <bool Affine, bool Silu>
void bf16_convert(const float* x, int64_t rows, int64_t c, const float* scale, const float* shift,
                  int64_t padded, uint16_t* out) {
  const int64_t whole = whole_vectors(c);
  for (int64_t r = 0; r < rows; ++r, x += c, out += padded) {
    int64_t j = 0;
    for (; j < whole; j += kLanes)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + j),
                          to_bfloat16(affine_silu<Affine, Silu>(x + j, scale + j, shift + j, kLanes)));
    for (; j < padded; j += kLanes) {
      const int64_t n = min(kLanes, c - j) > 0 ? min(kLanes, c - j) : 0;
      const __m256i bits = to_bfloat16(affine_silu<Affine, Silu>(x + j, scale + j, shift + j, n));
      _mm256_mask_storeu_epi16(out + j, first(min(kLanes, padded - j)), bits);
    }
  }
}

/// Each group has a step and an offset, its lowest value: outputs of SiLU are far from symmetric, and the
/// offset halves their error.
template <bool Affine, bool Silu>
void i8_convert(const float* x, int64_t rows, int64_t c, const float* scale, const float* shift,
                int64_t padded, int64_t group, uint8_t* out, float* scales) {
  constexpr int N = Silu ? 1 : 4;  // minima and maxima at once, which hide one another's latency
  alignas(64) float values[kMaxGroup];
  for (int64_t r = 0; r < rows; ++r, x += c, out += padded)
    for (int64_t begin = 0; begin < padded; begin += group, scales += 2) {
      const int64_t stored = min(group, padded - begin), length = min(stored, c - begin);
      const int64_t whole = whole_vectors(length), most = whole_vectors<N>(length);
      // What stays as it is is read twice.
      const float* from = Affine || Silu ? values : x + begin;
      Vecs<N> low = set1(__builtin_inff()), high = set1(-__builtin_inff()), check = zero();
      const auto take = [&](int64_t j, int64_t n, int i) {
        const Vec v = affine_silu<Affine, Silu>(x + begin + j, scale + begin + j, shift + begin + j, n);
        if (Affine || Silu) store_n(values + j, v, n);
        low.v[i] = _mm512_mask_min_ps(low.v[i], first(n), v, low.v[i]);
        high.v[i] = _mm512_mask_max_ps(high.v[i], first(n), v, high.v[i]);
        // NaN where v is NaN or infinite
        check.v[i] = _mm512_mask3_fmadd_ps(v, zero(), check.v[i], first(n));
      };
      int64_t j = 0;
      for (; j < most; j += N * kLanes)
#pragma GCC unroll 4
        for (int i = 0; i < N; ++i) take(j + i * kLanes, kLanes, i);
      for (; j < length; j += kLanes) take(j, min(kLanes, length - j), 0);
#pragma GCC unroll 4
      for (int i = 1; i < N; ++i) {
        low.v[0] = min(low.v[i], low.v[0]);
        high.v[0] = max(high.v[i], high.v[0]);
        check.v[0] = add(check.v[i], check.v[0]);
      }
      const float lowest = -highest_lane(sub(zero(), low.v[0])), range = highest_lane(high.v[0]) - lowest;
      const float step = range < kMinRange ? 0.0f : range / 255.0f;  // or NaN
      scales[0] = step + sum(check.v[0]);
      scales[1] = lowest;
      const Vec inverse = set1(step > 0 ? 1.0f / step : 0.0f), minus_lowest = set1(-lowest);
      const auto bytes = [&](Vec v) {
        v = max(zero(), mul(add(v, minus_lowest), inverse));
        return _mm512_maskz_cvtusepi32_epi8(0xffff, _mm512_maskz_cvtps_epi32(0xffff, v));
      };
      uint8_t* to = out + begin;
      for (j = 0; j < whole; j += kLanes)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + j), bytes(load(from + j)));
      for (; j < stored; j += kLanes) {
        const Vec v = j < length ? load_n(from + j, length - j) : set1(lowest);
        _mm_mask_storeu_epi8(to + j, first(min(kLanes, stored - j)), bytes(v));
      }
    }
}

void bf16_convert_rows(const float* x, int64_t rows, int64_t c, const float* scale, const float* shift,
                       bool silu, int64_t padded, int64_t, void* out, float*) {
  ND_ASSERT(x && out && padded >= c && c > 0 && are_both_or_neither(scale, shift));
  uint16_t* to = static_cast<uint16_t*>(out);
  if (scale && silu) return bf16_convert<true, true>(x, rows, c, scale, shift, padded, to);
  if (scale) return bf16_convert<true, false>(x, rows, c, scale, shift, padded, to);
  if (silu) return bf16_convert<false, true>(x, rows, c, scale, shift, padded, to);
  return bf16_convert<false, false>(x, rows, c, scale, shift, padded, to);
}

void i8_convert_rows(const float* x, int64_t rows, int64_t c, const float* scale, const float* shift,
                     bool silu, int64_t padded, int64_t group, void* out, float* scales) {
  ND_ASSERT(x && out && padded >= c && c > 0 && are_both_or_neither(scale, shift));
  ND_ASSERT(scales && group > 0 && group <= kMaxGroup);
  uint8_t* to = static_cast<uint8_t*>(out);
  if (scale && silu) return i8_convert<true, true>(x, rows, c, scale, shift, padded, group, to, scales);
  if (scale) return i8_convert<true, false>(x, rows, c, scale, shift, padded, group, to, scales);
  if (silu) return i8_convert<false, true>(x, rows, c, scale, shift, padded, group, to, scales);
  return i8_convert<false, false>(x, rows, c, scale, shift, padded, group, to, scales);
}

void bf16_winograd_input(const float* x, const int64_t* offset, int64_t tiles, int64_t c, int64_t row,
                         int64_t padded, int64_t, void* out, float*) {
  ND_ASSERT(x && offset && out && padded >= c && c > 0);
  uint16_t* to = static_cast<uint16_t*>(out);
  for (int64_t t = 0; t < tiles; ++t)
    for (int64_t j = 0; j < padded; j += kLanes) {
      uint16_t* at = to + t * padded + j;
      const int64_t n = min(kLanes, c - j) > 0 ? min(kLanes, c - j) : 0;
      const __mmask16 lanes = first(min(kLanes, padded - j));
      winograd_input_tile(x + offset[t] + j, c, row, n, [&](int64_t position, Vec v) {
        _mm256_mask_storeu_epi16(at + position * tiles * padded, lanes, to_bfloat16(v));
      });
    }
}

/// Sixty-four floats · scale + shift, which lie from 0 to 255, as the nearest bytes.
inline __m512i to_bytes(const float* x, Vec scale, Vec shift) {
  __m512i whole[4];
  for (int i = 0; i < 4; ++i)
    whole[i] = _mm512_maskz_cvtps_epi32(0xffff, fma(load(x + i * kLanes), scale, shift));
  const __m512i low = _mm512_packs_epi32(whole[0], whole[1]), high = _mm512_packs_epi32(whole[2], whole[3]);
  // Packing works within 128-bit lanes: this restores the order.
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_maskz_permutexvar_epi32(0xffff, order, _mm512_packus_epi16(low, high));
}

/// The sixteen transformed rows of one tile, for one group of channels, between the two passes over L1.
struct TileGroup {
  alignas(64) float values[16][kMaxGroup];
  alignas(64) float low[16][kLanes], high[16][kLanes];  // in each lane
  alignas(64) float lowest[16], step[16], inverse[16];

  void transform(const float* x, int64_t c, int64_t row, int64_t length) {
    for (int i = 0; i < 16; ++i) {
      store(low[i], set1(__builtin_inff()));
      store(high[i], set1(-__builtin_inff()));
    }
    Vec check = zero();  // NaN if a pixel is NaN or infinite; the four corners together read all sixteen
    for (int64_t j = 0; j < length; j += kLanes) {
      const int64_t n = min(kLanes, length - j);
      winograd_input_tile(x + j, c, row, n, [&](int64_t i, Vec v) {
        store(values[i] + j, v);
        store(low[i], _mm512_mask_min_ps(load(low[i]), first(n), v, load(low[i])));
        store(high[i], _mm512_mask_max_ps(load(high[i]), first(n), v, load(high[i])));
        if (i == 0 || i == 3 || i == 12 || i == 15) check = fma(v, zero(), check);
      });
    }
    Vec lows[kLanes], highs[kLanes];
    for (int i = 0; i < 16; ++i) {
      lows[i] = load(low[i]);
      highs[i] = load(high[i]);
    }
    transpose(lows);
    transpose(highs);
    for (int i = 1; i < kLanes; ++i) {
      lows[0] = min(lows[0], lows[i]);
      highs[0] = max(highs[0], highs[i]);
    }
    const Vec ranges = sub(highs[0], lows[0]);
    const __mmask16 wide = _mm512_cmp_ps_mask(ranges, set1(kMinRange), _CMP_NLT_UQ);  // or NaN
    const Vec steps = _mm512_maskz_mul_ps(wide, ranges, set1(1.0f / 255.0f));
    store(lowest, lows[0]);
    store(step, add(steps, set1(sum(check))));
    store(inverse, _mm512_maskz_div_ps(wide, set1(1.0f), steps));
  }

  void write_row(int i, int64_t stored, uint8_t* out, float* scales) const {
    scales[0] = step[i];
    scales[1] = lowest[i];
    const Vec scale = set1(inverse[i]), shift = set1(-lowest[i] * inverse[i]);
    for (int64_t j = 0; j < stored; j += 64) {
      const int64_t left = stored - j;
      const __mmask64 bytes = left < 64 ? (__mmask64{1} << left) - 1 : ~__mmask64{0};
      _mm512_mask_storeu_epi8(out + j, bytes, to_bytes(values[i] + j, scale, shift));
    }
  }
};

void i8_winograd_input(const float* x, const int64_t* offset, int64_t tiles, int64_t c, int64_t row,
                       int64_t padded, int64_t group, void* out, float* scales) {
  ND_ASSERT(x && offset && out && padded >= c && c > 0);
  ND_ASSERT(scales && group > 0 && group <= kMaxGroup);
  static_assert(kMaxGroup % 64 == 0, "whole vectors of bytes");
  TileGroup tile;
  const int64_t groups = (padded + group - 1) / group;
  for (int64_t t = 0; t < tiles; ++t)
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t begin = g * group, stored = min(group, padded - begin);
      tile.transform(x + offset[t] + begin, c, row, min(stored, c - begin));
      for (int i = 0; i < 16; ++i)
        tile.write_row(i, stored, static_cast<uint8_t*>(out) + (i * tiles + t) * padded + begin,
                       scales + 2 * ((i * tiles + t) * groups + g));
    }
}

constexpr ReducedGemm make_bf16_table() {
  ReducedGemm table{};
  table.element_bytes = 2;
  table.multiple = 2;
  table.max_group = 1024;
  table.panel_bytes = bf16_panel_bytes;
  table.pack_panel = bf16_pack_panel;
  table.convert_rows = bf16_convert_rows;
  table.gemm = reduced_gemm<Bf16Format<Bf16Dot>>;
  table.winograd_input = bf16_winograd_input;
  return table;
}

constexpr ReducedGemm make_i8_table() {
  ReducedGemm table{};
  table.element_bytes = 1;
  table.multiple = 4;
  table.max_group = kMaxGroup;
  table.scale_floats = 2;
  table.panel_bytes = i8_panel_bytes;
  table.pack_panel = i8_pack_panel;
  table.convert_rows = i8_convert_rows;
  table.gemm = reduced_gemm<I8Format<I8Dot>>;
  table.winograd_input = i8_winograd_input;
  table.expand_int4 = expand_int4;
  return table;
}

}  // namespace
}  // namespace nd::cpu::ND_ISA

namespace nd::cpu {
constexpr ReducedGemm avx512_bf16 = reduced_avx512::make_bf16_table();
constexpr ReducedGemm avx512_i8 = reduced_avx512::make_i8_table();
}  // namespace nd::cpu
