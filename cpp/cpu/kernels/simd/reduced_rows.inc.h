// Weights and activations to bytes or bfloat16, on what the including file says of its number formats:
//   I8Dot::kSteps          steps from a group's lowest to its highest activation
//   I8Dot::kShift          what is taken from a step count to store it: 128 where activations are signed
//   I8Dot::store(out, x)   kLanes floats, rounded to nearest, as bytes
//   Bf16Dot::store(out, x) kLanes floats as bfloat16
// Packing happens once, at load, and is plain: panels hold [k / Depth][nr][Depth] elements.
namespace nd::cpu::ND_ISA {
namespace {

constexpr int64_t kPiece = 512;  // channels normalised at a time, kept in L1; the longest group of int8

template <class Format>
int64_t reduced_panel_bytes(const KGroup* groups, int64_t count) {
  int64_t bytes = 0;
  for (int64_t g = 0; g < count; ++g) bytes += Format::group_bytes(groups[g]);
  return bytes;
}

/// To nearest, ties to even; NaN stays NaN.
inline uint16_t to_bfloat16(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  if (x != x) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

template <int64_t Depth>
void bf16_pack_panel(const float* const* rows, int64_t count, const KGroup* groups, int64_t group_count,
                     uint8_t* panel) {
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
  int64_t first = 0;
  for (int64_t g = 0; g < group_count; ++g) {
    const int64_t length = groups[g].length;
    float* scales = reinterpret_cast<float*>(panel);
    int8_t* bytes = reinterpret_cast<int8_t*>(panel + kNr * 8);
    for (int64_t j = 0; j < kNr; ++j) {
      float most = 0, check = 0;
      for (int64_t i = 0; i < length && j < count; ++i) {
        const float x = rows[j][first + i], size = x < 0 ? -x : x;
        most = size > most ? size : most;
        check += x * 0.0f;  // NaN where x is NaN or infinite
      }
      const bool any = j < count && most > 0 && check == 0;
      const float inverse = any ? 127.0f / most : 0.0f;
      int32_t total = 0;
      for (int64_t i = 0; i < length; ++i) {
        const float x = any ? rows[j][first + i] * inverse : 0.0f;
        const int32_t whole = static_cast<int32_t>(x + (x < 0 ? -0.5f : 0.5f));
        bytes[i / Depth * Depth * kNr + j * Depth + i % Depth] = static_cast<int8_t>(whole);
        total += whole;
      }
      scales[j] = most / 127.0f + check;
      scales[kNr + j] = scales[j] * static_cast<float>(total);
    }
    panel += (8 + length) * kNr;
    first += length;
  }
}

template <bool Affine, bool Silu, bool Partial>
inline Vec prepared(const float* x, const float* scale, const float* shift, int64_t n) {
  Vec v = load_some<Partial>(x, n);
  if (Affine) v = fma(v, load_some<Partial>(scale, n), load_some<Partial>(shift, n));
  return Silu ? activated<Activation::silu>(v) : v;
}

/// f(x·scale + shift) of `count` channels; what follows, up to a whole vector, is zero or silu's zero.
template <bool Affine, bool Silu>
inline void prepare(const float* x, const float* scale, const float* shift, int64_t count, float* out) {
  int64_t j = 0;
  for (; j + kLanes <= count; j += kLanes)
    store(out + j, prepared<Affine, Silu, false>(x + j, scale + j, shift + j, kLanes));
  if (j < count) store(out + j, prepared<Affine, Silu, true>(x + j, scale + j, shift + j, count - j));
}

/// Lowest and highest of `count` values, and NaN instead of the sum of zeros where one is NaN or infinite.
inline void range(const float* x, int64_t count, float& lowest, float& highest, float& check) {
  alignas(64) float low[kLanes], high[kLanes], zeros[kLanes];
  Vec least_yet = set1(__builtin_inff()), most_yet = set1(-__builtin_inff()), checked = zero();
  int64_t j = 0;
  for (; j + kLanes <= count; j += kLanes) {
    const Vec v = load(x + j);
    least_yet = min(v, least_yet);
    most_yet = max(v, most_yet);
    checked = fma(v, zero(), checked);
  }
  store(low, least_yet);
  store(high, most_yet);
  store(zeros, checked);
  lowest = low[0], highest = high[0], check = zeros[0];
  for (int i = 1; i < kLanes; ++i) {
    lowest = low[i] < lowest ? low[i] : lowest;
    highest = high[i] > highest ? high[i] : highest;
    check += zeros[i];
  }
  for (; j < count; ++j) {
    lowest = x[j] < lowest ? x[j] : lowest;
    highest = x[j] > highest ? x[j] : highest;
    check += x[j] * 0.0f;
  }
}

template <class Dot>
struct I8Rows {
  using Element = uint8_t;
  template <bool Affine, bool Silu>
  static void convert(const float* x, int64_t rows, int64_t c, const float* scale, const float* shift,
                      int64_t padded, int64_t group, uint8_t* out, float* scales) {
    alignas(64) float values[kPiece + kLanes];
    uint8_t tail[kLanes];
    for (int64_t r = 0; r < rows; ++r, x += c, out += padded)
      for (int64_t begin = 0; begin < padded; begin += group, scales += 2) {
        const int64_t stored = min(group, padded - begin), length = min(stored, c - begin);
        prepare<Affine, Silu>(x + begin, scale + begin, shift + begin, length, values);
        float lowest, highest, check;
        range(values, length, lowest, highest, check);
        const float step = (highest - lowest) / Dot::kSteps;
        scales[0] = step + check;
        scales[1] = lowest + Dot::kShift * step;
        for (int64_t j = length; j < stored; ++j) values[j] = lowest;
        const Vec inverse = set1(step > 0 ? 1.0f / step : 0.0f), from = set1(lowest),
                  taken = set1(Dot::kShift);
        for (int64_t j = 0; j < stored; j += kLanes) {
          const Vec v = sub(mul(sub(load(values + j), from), inverse), taken);
          if (j + kLanes <= stored) {
            Dot::store(out + begin + j, v);
          } else {
            Dot::store(tail, v);
            for (int64_t i = j; i < stored; ++i) out[begin + i] = tail[i - j];
          }
        }
      }
  }
};

template <class Dot>
struct Bf16Rows {
  using Element = uint16_t;
  template <bool Affine, bool Silu>
  static void convert(const float* x, int64_t rows, int64_t c, const float* scale, const float* shift,
                      int64_t padded, int64_t, uint16_t* out, float*) {
    alignas(64) float values[kPiece + kLanes];
    uint16_t tail[kLanes];
    for (int64_t r = 0; r < rows; ++r, x += c, out += padded)
      for (int64_t begin = 0; begin < padded; begin += kPiece) {
        const int64_t stored = min(kPiece, padded - begin), length = min(stored, c - begin);
        prepare<Affine, Silu>(x + begin, scale + begin, shift + begin, length, values);
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

template <class Rows>
void reduced_convert_rows(const float* x, int64_t rows, int64_t c, const float* scale, const float* shift,
                          bool silu, int64_t padded, int64_t group, void* out, float* scales) {
  auto* to = static_cast<typename Rows::Element*>(out);
  if (scale && silu)
    return Rows::template convert<true, true>(x, rows, c, scale, shift, padded, group, to, scales);
  if (scale) return Rows::template convert<true, false>(x, rows, c, scale, shift, padded, group, to, scales);
  if (silu) return Rows::template convert<false, true>(x, rows, c, scale, shift, padded, group, to, scales);
  return Rows::template convert<false, false>(x, rows, c, scale, shift, padded, group, to, scales);
}

/// The table of an int8 product; winograd_input and expand are the including file's to set.
template <class Format, class Rows, int64_t Depth>
constexpr ReducedGemm int8_table() {
  ReducedGemm table{};
  table.element_bytes = 1;
  table.multiple = Depth;
  table.longest_group = kPiece;
  table.scale_floats = 2;
  table.panel_bytes = reduced_panel_bytes<Format>;
  table.pack_panel = i8_pack_panel<Depth>;
  table.convert_rows = reduced_convert_rows<Rows>;
  table.gemm = reduced_gemm<Format>;
  return table;
}

/// The table of a bfloat16 product; winograd_input is the including file's to set.
template <class Format, class Rows, int64_t Depth>
constexpr ReducedGemm bf16_table() {
  ReducedGemm table{};
  table.element_bytes = 2;
  table.multiple = Depth;
  table.longest_group = 1024;
  table.panel_bytes = reduced_panel_bytes<Format>;
  table.pack_panel = bf16_pack_panel<Depth>;
  table.convert_rows = reduced_convert_rows<Rows>;
  table.gemm = reduced_gemm<Format>;
  return table;
}

}  // namespace
}  // namespace nd::cpu::ND_ISA
