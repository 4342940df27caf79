// int16 products for CPUs with AVX512-VNNI: as fast as bfloat16, and about five times as precise.
//
// A group of activations is whole numbers from −kSteps to kSteps times a step, and a group of a column of
// weights is whole numbers times a scale. Scales are chosen for sums that stay below 2³¹ whatever the
// activations are: a few large weights may use all of sixteen bits, and a group of equal ones uses eleven.
#define ND_ISA int16_avx512
#define ND_VECTOR "cpu/kernels/simd/vec_avx512.inc.h"
#include "cpu/kernels/simd/prelude.inc.h"
#include "cpu/kernels/simd/gemm.inc.h"
#include "cpu/kernels/simd/reduced_gemm.inc.h"
#include "cpu/kernels/simd/reduced_avx512.inc.h"
#include "cpu/kernels/simd/winograd.inc.h"

#include "cpu/kernels/simd/reduced_tiles.inc.h"

namespace nd::cpu::ND_ISA {
namespace {

/// Pairs of int16: acc += a₀·b₀ + a₁·b₁ in each lane.
struct I16Dot {
  using Acc = __m512i;
  static Acc none() { return _mm512_setzero_si512(); }
  static void dot(Acc& acc, __m512i a, __m512i b) { asm("vpdpwssd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b)); }
  static Vec to_float(Acc acc) { return _mm512_maskz_cvtepi32_ps(0xffff, acc); }
};
using I16Format = IntegerFormat<I16Dot, 2, false>;

constexpr int64_t kMaxGroup = 256;
constexpr float kSteps = 8191;
// The largest weight, and the sum of the magnitudes of a group's weights. Rounding adds kMaxGroup / 2 to the
// sum at most: (262000 + 128) · 8192 < 2³¹.
constexpr float kMaxWeight = 32767, kMaxSum = 262000;
// Groups of activations and of weights that are smaller than this are stored as zeros: a step or a scale and
// its inverse must be finite.
constexpr float kTiny = 0x1p-110f;
constexpr float kSumUnit = 0x1p-10f;  // sums of the largest floats overflow

/// Sixteen floats, rounded to nearest, as int16.
inline __m256i to_words(Vec x) {
  return _mm512_maskz_cvtsepi32_epi16(0xffff, _mm512_maskz_cvtps_epi32(0xffff, x));
}

int64_t panel_bytes(const KGroup* groups, int64_t count) {
  int64_t bytes = 0;
  for (int64_t g = 0; g < count; ++g) bytes += I16Format::group_bytes(groups[g]);
  return bytes;
}

/// The scale of a group of one column of weights: NaN if a weight is NaN or infinite.
inline float weight_scale(const float* x, int64_t count) {
  Vec largest = zero(), total = zero(), check = zero();
  for (int64_t i = 0; i < count; i += kLanes) {
    const Vec v = load_n(x + i, min(kLanes, count - i)), size = abs(v);
    largest = max(size, largest);
    total = fma(size, set1(kSumUnit), total);
    check = fma(v, zero(), check);
  }
  const float by_size = highest_lane(largest) / kMaxWeight, by_sum = sum(total) / (kMaxSum * kSumUnit);
  const float scale = by_size > by_sum ? by_size : by_sum;
  return (highest_lane(largest) < kTiny ? 0.0f : scale) + sum(check);
}

void pack_panel(const float* const* rows, int64_t count, const KGroup* groups, int64_t group_count,
                uint8_t* panel) {
  ND_ASSERT(0 < count && count <= kNr && is_aligned(panel));
  ND_ASSERT(are_multiples(groups, group_count, 2));
  int64_t first_k = 0;
  for (int64_t g = 0; g < group_count; ++g) {
    const int64_t length = groups[g].length;
    float* scales = reinterpret_cast<float*>(panel);
    for (int64_t column = 0; column < kNr; column += kLanes) {
      Vec inverse[kLanes];
      for (int r = 0; r < kLanes; ++r) {
        const float scale = column + r < count ? weight_scale(rows[column + r] + first_k, length) : 0.0f;
        scales[column + r] = scale;
        inverse[r] = set1(scale > 0 ? 1.0f / scale : 0.0f);
      }
      for (int64_t i = 0; i < length; i += 2 * kLanes) {
        __m512i words[kLanes];
        const int64_t left = min(2 * kLanes, length - i);
        for (int r = 0; r < kLanes; ++r) {
          words[r] = _mm512_setzero_si512();
          if (column + r >= count) continue;
          const float* row = rows[column + r] + first_k + i;
          const __m256i low = to_words(mul(load_n(row, min(left, kLanes)), inverse[r]));
          const Vec rest = left > kLanes ? load_n(row + kLanes, left - kLanes) : zero();
          words[r] =
              _mm512_maskz_inserti64x4(0xff, _mm512_castsi256_si512(low), to_words(mul(rest, inverse[r])), 1);
        }
        transpose_words(words, left / 2, panel + 4 * kNr + i * 2 * kNr + column * 4);
      }
    }
    panel += I16Format::group_bytes(groups[g]);
    first_k += length;
  }
}

template <bool Affine, bool Silu>
void convert(const float* x, int64_t rows, int64_t c, const float* scale, const float* shift, int64_t padded,
             int64_t group, int16_t* out, float* scales) {
  constexpr int N = Silu ? 1 : 4;  // maxima at once, which hide one another's latency
  alignas(64) float values[kMaxGroup];
  for (int64_t r = 0; r < rows; ++r, x += c, out += padded)
    for (int64_t begin = 0; begin < padded; begin += group, scales += 2) {
      const int64_t stored = min(group, padded - begin), length = min(stored, c - begin);
      const int64_t whole = whole_vectors(length), most = whole_vectors<N>(length);
      // What stays as it is is read twice.
      const float* from = Affine || Silu ? values : x + begin;
      Vecs<N> largest = zero(), check = zero();  // NaN where a value is NaN or infinite
      const auto take = [&](int64_t j, int64_t n, int i) {
        const int64_t at = begin + j;
        const Vec v = affine_silu<Affine, Silu>(x + at, scale + at, shift + at, n);
        if (Affine || Silu) store(values + j, v);
        largest.v[i] = max(abs(v), largest.v[i]);
        check.v[i] = fma(v, zero(), check.v[i]);
      };
      int64_t j = 0;
      for (; j < most; j += N * kLanes)
#pragma GCC unroll 4
        for (int i = 0; i < N; ++i) take(j + i * kLanes, kLanes, i);
      for (; j < length; j += kLanes) take(j, min(kLanes, length - j), 0);
#pragma GCC unroll 4
      for (int i = 1; i < N; ++i) {
        largest.v[0] = max(largest.v[i], largest.v[0]);
        check.v[0] = add(check.v[i], check.v[0]);
      }
      const float top = highest_lane(largest.v[0]), step = top < kTiny ? 0.0f : top / kSteps;
      scales[0] = step + sum(check.v[0]);
      scales[1] = 0;
      const Vec inverse = set1(step > 0 ? 1.0f / step : 0.0f);
      int16_t* to = out + begin;
      for (j = 0; j < whole; j += kLanes)
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + j), to_words(mul(load(from + j), inverse)));
      for (; j < stored; j += kLanes) {
        const Vec v = j < length ? load_n(from + j, length - j) : zero();
        _mm256_mask_storeu_epi16(to + j, first(min(kLanes, stored - j)), to_words(mul(v, inverse)));
      }
    }
}

void convert_rows(const float* x, int64_t rows, int64_t c, const float* scale, const float* shift, bool silu,
                  int64_t padded, int64_t group, void* out, float* scales) {
  ND_ASSERT(x && out && padded >= c && c > 0 && are_both_or_neither(scale, shift));
  ND_ASSERT(scales && group > 0 && group <= kMaxGroup);
  int16_t* to = static_cast<int16_t*>(out);
  if (scale && silu) return convert<true, true>(x, rows, c, scale, shift, padded, group, to, scales);
  if (scale) return convert<true, false>(x, rows, c, scale, shift, padded, group, to, scales);
  if (silu) return convert<false, true>(x, rows, c, scale, shift, padded, group, to, scales);
  return convert<false, false>(x, rows, c, scale, shift, padded, group, to, scales);
}

/// The step of a tile's group of channels: the sixteen results are sums of four pixels each. NaN if a pixel
/// is NaN or infinite, whose bits are those of numbers above all others.
inline float tile_step(const float* x, int64_t pixel, int64_t row, int64_t length) {
  __m512i largest = _mm512_setzero_si512();
  for (int64_t j = 0; j < length; j += kLanes) {
    const __mmask16 lanes = first(min(kLanes, length - j));
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      const Vec v = _mm512_maskz_loadu_ps(lanes, x + i / 4 * row + i % 4 * pixel + j);
      largest = _mm512_maskz_max_epi32(0xffff, largest, _mm512_castps_si512(abs(v)));
    }
  }
  const Vec top = _mm512_castsi512_ps(largest);
  const float highest = highest_lane(top), check = sum(mul(top, zero()));
  return (highest < kTiny ? 0.0f : highest / (kSteps / 4)) + check;
}

void i16_winograd_input(const float* x, const int64_t* offset, int64_t tiles, int64_t c, int64_t row,
                        int64_t padded, int64_t group, void* out, float* scales) {
  ND_ASSERT(x && offset && out && padded >= c && c > 0);
  ND_ASSERT(scales && group > 0 && group <= kMaxGroup);
  const int64_t groups = (padded + group - 1) / group, plane = tiles * padded;
  for (int64_t t = 0; t < tiles; ++t)
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t begin = g * group, stored = min(group, padded - begin), length = min(stored, c - begin);
      const float* from = x + offset[t] + begin;
      const float step = tile_step(from, c, row, length);
      for (int i = 0; i < 16; ++i) {
        float* scale = scales + 2 * ((i * tiles + t) * groups + g);
        scale[0] = step;
        scale[1] = 0;
      }
      const Vec inverse = set1(step > 0 ? 1.0f / step : 0.0f);
      int16_t* to = static_cast<int16_t*>(out) + t * padded + begin;
      for (int64_t j = 0; j < stored; j += kLanes) {
        const int64_t n = min(kLanes, length - j) > 0 ? min(kLanes, length - j) : 0;
        const __mmask16 lanes = first(min(kLanes, stored - j));
        winograd_input_tile(from + j, c, row, n, [&](int64_t position, Vec v) {
          _mm256_mask_storeu_epi16(to + position * plane + j, lanes, to_words(mul(v, inverse)));
        });
      }
    }
}

constexpr ReducedGemm make_table() {
  ReducedGemm table{};
  table.element_bytes = 2;
  table.multiple = 2;
  table.max_group = kMaxGroup;
  table.scale_floats = 2;
  table.panel_bytes = panel_bytes;
  table.pack_panel = pack_panel;
  table.convert_rows = convert_rows;
  table.gemm = reduced_gemm<I16Format>;
  table.winograd_input = i16_winograd_input;
  return table;
}

}  // namespace
}  // namespace nd::cpu::ND_ISA

namespace nd::cpu {
constexpr ReducedGemm avx512_i16 = int16_avx512::make_table();
}  // namespace nd::cpu
