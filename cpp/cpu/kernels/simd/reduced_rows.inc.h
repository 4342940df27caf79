// Conversion of activations and packing of weights to int8 or bfloat16. The including file's dot product says
// how:
//   I8Dot::kSteps           steps from the lowest to the highest activation of a group
//   I8Dot::kShift           subtracted from the number of steps: 128 where activations are signed, else 0
//   I8Dot::store(out, x)    kLanes floats, rounded to nearest, as bytes
//   Bf16Dot::store(out, x)  kLanes floats as bfloat16
// Weights are packed once, when a model is loaded, by plain loops. Panels hold [k / Depth][nr][Depth]
// elements.
namespace nd::cpu::ND_ISA {
namespace {

// The longest int8 group, and how many channels are converted at a time: their floats stay in L1.
constexpr int64_t kMaxGroup = 512;

template <class Format>
int64_t reduced_panel_bytes(const KGroup* groups, int64_t count) {
  int64_t bytes = 0;
  for (int64_t g = 0; g < count; ++g) bytes += Format::group_bytes(groups[g]);
  return bytes;
}

/// Rounds to nearest, ties to even; NaN stays NaN.
inline uint16_t to_bfloat16(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  if (x != x) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

template <int64_t Depth>
void bf16_pack_panel(const float* const* rows, int64_t count, const KGroup* groups, int64_t group_count,
                     uint8_t* panel) {
  ND_ASSERT(0 < count && count <= kNr && is_aligned(panel));
  ND_ASSERT(are_multiples(groups, group_count, Depth));
  int64_t k = 0;
  for (int64_t g = 0; g < group_count; ++g) k += groups[g].length;
  uint16_t* out = reinterpret_cast<uint16_t*>(panel);
  for (int64_t j = 0; j < kNr; ++j)
    for (int64_t i = 0; i < k; ++i)
      out[i / Depth * Depth * kNr + j * Depth + i % Depth] = j < count ? to_bfloat16(rows[j][i]) : 0;
}

template <int64_t Depth>
void i8_pack_panel(const float* const* rows, int64_t count, const KGroup* groups, int64_t group_count,
                   uint8_t* panel) {
  ND_ASSERT(0 < count && count <= kNr && is_aligned(panel));
  ND_ASSERT(are_multiples(groups, group_count, Depth));
  int64_t first = 0;
  for (int64_t g = 0; g < group_count; ++g) {
    const int64_t length = groups[g].length;
    float* scales = reinterpret_cast<float*>(panel);
    int8_t* bytes = reinterpret_cast<int8_t*>(panel + kNr * 8);
    for (int64_t j = 0; j < kNr; ++j) {
      float largest = 0, check = 0;
      for (int64_t i = 0; i < length && j < count; ++i) {
        const float x = rows[j][first + i], size = x < 0 ? -x : x;
        largest = size > largest ? size : largest;
        check += x * 0.0f;  // NaN where x is NaN or infinite
      }
      const bool any = j < count && largest >= kMinWeight && check == 0;
      const float inverse = any ? 127.0f / largest : 0.0f;
      int32_t total = 0;
      for (int64_t i = 0; i < length; ++i) {
        const float x = any ? rows[j][first + i] * inverse : 0.0f;
        const int32_t whole = static_cast<int32_t>(x + (x < 0 ? -0.5f : 0.5f));
        bytes[i / Depth * Depth * kNr + j * Depth + i % Depth] = static_cast<int8_t>(whole);
        total += whole;
      }
      scales[j] = largest / 127.0f + check;
      scales[kNr + j] = scales[j] * static_cast<float>(total);
    }
    panel += (8 + length) * kNr;
    first += length;
  }
}

/// The lowest and the highest of `count` values; check is 0, or NaN if a value is NaN or infinite.
inline void find_range(const float* x, int64_t count, float& lowest, float& highest, float& check) {
  constexpr int N = 4;  // hides the latency of comparisons
  Vecs<N> low = set1(__builtin_inff()), high = set1(-__builtin_inff()), checked = zero();
  const int64_t most = whole_vectors<N>(count), whole = whole_vectors(count);
  int64_t j = 0;
  for (; j < most; j += N * kLanes) {
    const Vecs<N> v = Vecs<N>::load(x + j);
    low = min(v, low);
    high = max(v, high);
    checked = fma(v, zero(), checked);
  }
  for (; j < whole; j += kLanes) {
    const Vec v = load(x + j);
    low.v[0] = min(v, low.v[0]);
    high.v[0] = max(v, high.v[0]);
    checked.v[0] = fma(v, zero(), checked.v[0]);
  }
  for (int i = 1; i < N; ++i) {
    low.v[0] = min(low.v[i], low.v[0]);
    high.v[0] = max(high.v[i], high.v[0]);
    checked.v[0] = add(checked.v[i], checked.v[0]);
  }
  alignas(64) float lows[kLanes], highs[kLanes], checks[kLanes];
  store(lows, low.v[0]);
  store(highs, high.v[0]);
  store(checks, checked.v[0]);
  lowest = lows[0], highest = highs[0], check = checks[0];
  for (int i = 1; i < kLanes; ++i) {
    lowest = lows[i] < lowest ? lows[i] : lowest;
    highest = highs[i] > highest ? highs[i] : highest;
    check += checks[i];
  }
  for (; j < count; ++j) {
    lowest = x[j] < lowest ? x[j] : lowest;
    highest = x[j] > highest ? x[j] : highest;
    check += x[j] * 0.0f;
  }
}

template <class Dot>
struct I8Converter {
  using Element = uint8_t;
  template <bool Affine, bool Silu>
  static void convert(const float* x, int64_t rows, int64_t c, const float* scale, const float* shift,
                      int64_t padded, int64_t group, uint8_t* out, float* scales) {
    alignas(64) float values[kMaxGroup + kLanes];
    uint8_t tail[kLanes];
    for (int64_t r = 0; r < rows; ++r, x += c, out += padded)
      for (int64_t begin = 0; begin < padded; begin += group, scales += 2) {
        const int64_t stored = min(group, padded - begin), length = min(stored, c - begin);
        // Whole vectors of a row that stays as it is are read in place.
        const bool in_place = !Affine && !Silu && length == stored && length % kLanes == 0;
        const float* from = in_place ? x + begin : values;
        if (!in_place)
          affine_row<Affine, Silu ? Activation::silu : Activation::none>(x + begin, scale + begin,
                                                                         shift + begin, length, values);
        float lowest, highest, check;
        find_range(from, length, lowest, highest, check);
        const float range = highest - lowest,
                    step = range < kMinRange ? 0.0f : range / Dot::kSteps;  // or NaN
        scales[0] = step + check;
        scales[1] = lowest + Dot::kShift * step;
        for (int64_t j = length; j < stored; ++j) values[j] = lowest;
        const Vec inverse = set1(step > 0 ? 1.0f / step : 0.0f), origin = set1(lowest),
                  shift_steps = set1(Dot::kShift);
        const auto steps = [&](int64_t j) {
          return sub(mul(sub(load(from + j), origin), inverse), shift_steps);
        };
        const int64_t whole = whole_vectors(stored);
        for (int64_t j = 0; j < whole; j += kLanes) Dot::store(out + begin + j, steps(j));
        if (whole == stored) continue;
        Dot::store(tail, steps(whole));
        for (int64_t j = whole; j < stored; ++j) out[begin + j] = tail[j - whole];
      }
  }
};

template <class Dot>
struct Bf16Converter {
  using Element = uint16_t;
  template <bool Affine, bool Silu>
  static void convert(const float* x, int64_t rows, int64_t c, const float* scale, const float* shift,
                      int64_t padded, int64_t, uint16_t* out, float*) {
    alignas(64) float values[kMaxGroup + kLanes];
    uint16_t tail[kLanes];
    for (int64_t r = 0; r < rows; ++r, x += c, out += padded)
      for (int64_t begin = 0; begin < padded; begin += kMaxGroup) {
        const int64_t stored = min(kMaxGroup, padded - begin), length = min(stored, c - begin);
        affine_row<Affine, Silu ? Activation::silu : Activation::none>(x + begin, scale + begin,
                                                                       shift + begin, length, values);
        for (int64_t j = length; j < stored; ++j) values[j] = 0;
        for (int64_t j = 0; j < stored; j += kLanes) {
          if (j + kLanes <= stored) {
            Dot::store(out + begin + j, load(values + j));
          } else {
            Dot::store(tail, load(values + j));
            for (int64_t i = j; i < stored; ++i) out[begin + i] = tail[i - j];
          }
        }
      }
  }
};

template <class Converter>
void reduced_convert_rows(const float* x, int64_t rows, int64_t c, const float* scale, const float* shift,
                          bool silu, int64_t padded, int64_t group, void* out, float* scales) {
  ND_ASSERT(x && out && padded >= c && c > 0 && are_both_or_neither(scale, shift));
  ND_ASSERT(sizeof(typename Converter::Element) > 1 || (scales && group > 0 && group <= kMaxGroup));
  auto* to = static_cast<typename Converter::Element*>(out);
  if (scale && silu)
    return Converter::template convert<true, true>(x, rows, c, scale, shift, padded, group, to, scales);
  if (scale)
    return Converter::template convert<true, false>(x, rows, c, scale, shift, padded, group, to, scales);
  if (silu)
    return Converter::template convert<false, true>(x, rows, c, scale, shift, padded, group, to, scales);
  return Converter::template convert<false, false>(x, rows, c, scale, shift, padded, group, to, scales);
}

/// The table of an int8 product, except for winograd_input and expand_int4, which the including file sets.
template <class Format, class Converter, int64_t Depth>
constexpr ReducedGemm int8_table() {
  ReducedGemm table{};
  table.element_bytes = 1;
  table.multiple = Depth;
  table.max_group = kMaxGroup;
  table.scale_floats = 2;
  table.panel_bytes = reduced_panel_bytes<Format>;
  table.pack_panel = i8_pack_panel<Depth>;
  table.convert_rows = reduced_convert_rows<Converter>;
  table.gemm = reduced_gemm<Format>;
  return table;
}

/// The table of a bfloat16 product, except for winograd_input, which the including file sets.
template <class Format, class Converter, int64_t Depth>
constexpr ReducedGemm bf16_table() {
  ReducedGemm table{};
  table.element_bytes = 2;
  table.multiple = Depth;
  table.max_group = 1024;
  table.panel_bytes = reduced_panel_bytes<Format>;
  table.pack_panel = bf16_pack_panel<Depth>;
  table.convert_rows = reduced_convert_rows<Converter>;
  table.gemm = reduced_gemm<Format>;
  return table;
}

}  // namespace
}  // namespace nd::cpu::ND_ISA
