// The reference of the reduced-precision products. A panel holds bfloat16 as [k][nr]; in int8, for each
// group, the scales of nr columns, then the weights [length][nr].
#include "cpu/kernels/reduced_gemm.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/kernels/int4.h"
#include "cpu/kernels/ref/multiply.h"
#include "cpu/kernels/tables.h"

namespace nd::cpu::ref {

namespace {

/// Rounds to nearest, ties to even; NaN stays NaN.
uint16_t to_bfloat16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  if (std::isnan(x)) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

double from_bfloat16(uint16_t x) {
  float value;
  bfloat16_to_float(&x, 1, &value);
  return value;
}

/// f(x·scale + shift) of one channel, as Kernels::affine_rows.
float affine_silu(float x, int64_t channel, const float* scale, const float* shift, bool silu) {
  float value;
  affine_rows(&x, 1, 1, scale ? scale + channel : nullptr, shift ? shift + channel : nullptr, silu, &value);
  return value;
}

int64_t total_length(const KGroup* groups, int64_t count) {
  int64_t k = 0;
  for (int64_t g = 0; g < count; ++g) k += groups[g].length;
  return k;
}

/// Where row i begins, in elements of the data.
int64_t row_start(const ReducedLhs& a, int64_t i) {
  return a.row_offset ? a.row_offset[i] : i * a.pixel_elements;
}

// --- bfloat16 ---

int64_t bf16_panel_bytes(const KGroup* groups, int64_t count) {
  return total_length(groups, count) * kPanelColumns * 2;
}

void bf16_pack_panel(const float* const* rows, int64_t count, const KGroup* groups, int64_t group_count,
                     uint8_t* panel) {
  uint16_t* out = reinterpret_cast<uint16_t*>(panel);
  for (int64_t i = 0; i < total_length(groups, group_count); ++i)
    for (int64_t j = 0; j < kPanelColumns; ++j) *out++ = j < count ? to_bfloat16(rows[j][i]) : 0;
}

void bf16_convert_rows(const float* x, int64_t rows, int64_t c, const float* scale, const float* shift,
                       bool silu, int64_t padded, int64_t, void* out, float*) {
  uint16_t* to = static_cast<uint16_t*>(out);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t j = 0; j < padded; ++j)
      *to++ = j < c ? to_bfloat16(affine_silu(x[r * c + j], j, scale, shift, silu)) : 0;
}

void bf16_gemm(const ReducedGemmArgs& args, int64_t m0, int64_t m1, int64_t p0, int64_t p1) {
  multiply(args.epilogue, args.n, m0, m1, p0, p1, [&](int64_t i, int64_t p, int64_t slot) {
    const uint16_t* row = static_cast<const uint16_t*>(args.lhs.data) + row_start(args.lhs, i);
    const uint16_t* weight =
        reinterpret_cast<const uint16_t*>(args.rhs.panels + p * args.rhs.panel_bytes) + slot;
    double sum = 0;
    for (int64_t g = 0; g < args.group_count; ++g)
      for (int64_t k = 0; k < args.groups[g].length; ++k, weight += kPanelColumns)
        sum += from_bfloat16(row[args.groups[g].offset + k]) * from_bfloat16(*weight);
    return sum;
  });
}

// --- int8 ---

constexpr int64_t kScaleBytes = kPanelColumns * static_cast<int64_t>(sizeof(float));

int64_t i8_panel_bytes(const KGroup* groups, int64_t count) {
  return count * kScaleBytes + total_length(groups, count) * kPanelColumns;
}

void i8_pack_panel(const float* const* rows, int64_t count, const KGroup* groups, int64_t group_count,
                   uint8_t* panel) {
  int64_t first = 0;
  for (int64_t g = 0; g < group_count; ++g) {
    const int64_t length = groups[g].length;
    float* scales = reinterpret_cast<float*>(panel);
    int8_t* weights = reinterpret_cast<int8_t*>(panel + kScaleBytes);
    for (int64_t j = 0; j < kPanelColumns; ++j) {
      float largest = 0, check = 0;
      for (int64_t i = 0; i < length && j < count; ++i) {
        largest = std::max(largest, std::fabs(rows[j][first + i]));
        check += rows[j][first + i] * 0.0f;
      }
      scales[j] = largest / 127.0f + check;
      for (int64_t i = 0; i < length; ++i)
        weights[i * kPanelColumns + j] =
            j < count && largest >= kMinWeight && scales[j] > 0
                // The product overflows where a weight is near the largest float.
                ? static_cast<int8_t>(
                      std::clamp(std::nearbyint(rows[j][first + i] * 127.0f / largest), -127.0f, 127.0f))
                : 0;
    }
    panel += kScaleBytes + length * kPanelColumns;
    first += length;
  }
}

void i8_convert_rows(const float* x, int64_t rows, int64_t c, const float* scale, const float* shift,
                     bool silu, int64_t padded, int64_t group, void* out, float* scales) {
  uint8_t* to = static_cast<uint8_t*>(out);
  for (int64_t r = 0; r < rows; ++r, x += c, to += padded)
    for (int64_t begin = 0; begin < padded; begin += group, scales += 2) {
      const int64_t end = std::min(begin + group, padded);
      auto value = [&](int64_t j) { return affine_silu(x[j], j, scale, shift, silu); };
      float low = INFINITY, high = -INFINITY, check = 0;
      for (int64_t j = begin; j < std::min(end, c); ++j) {
        low = std::min(low, value(j));
        high = std::max(high, value(j));
        check += value(j) * 0.0f;  // NaN where it is NaN or infinite
      }
      const float range = high - low, step = range < kMinRange ? 0.0f : range / 255.0f;  // or NaN
      for (int64_t j = begin; j < end; ++j)
        to[j] = j < c && step > 0 && step < INFINITY
                    ? static_cast<uint8_t>(std::min(255.0f, std::nearbyint((value(j) - low) / step)))
                    : 0;
      scales[0] = step + check;
      scales[1] = low;
    }
}

void i8_gemm(const ReducedGemmArgs& args, int64_t m0, int64_t m1, int64_t p0, int64_t p1) {
  multiply(args.epilogue, args.n, m0, m1, p0, p1, [&](int64_t i, int64_t p, int64_t slot) {
    const int64_t start = row_start(args.lhs, i);
    const uint8_t* row = static_cast<const uint8_t*>(args.lhs.data) + start;
    const float* scales = args.lhs.scales + 2 * (start / args.lhs.pixel_elements * args.lhs.scales_per_pixel);
    const uint8_t* panel = args.rhs.panels + p * args.rhs.panel_bytes;
    double sum = 0;
    for (int64_t g = 0; g < args.group_count; ++g) {
      const KGroup& group = args.groups[g];
      const int8_t* weight = reinterpret_cast<const int8_t*>(panel + kScaleBytes) + slot;
      int64_t products = 0, weights = 0;
      for (int64_t k = 0; k < group.length; ++k, weight += kPanelColumns) {
        products += row[group.offset + k] * *weight;
        weights += *weight;
      }
      const double step = scales[2 * group.scale], low = scales[2 * group.scale + 1];
      sum += (step * static_cast<double>(products) + low * static_cast<double>(weights)) *
             reinterpret_cast<const float*>(panel)[slot];
      panel += kScaleBytes + group.length * kPanelColumns;
    }
    return sum;
  });
}

void i8_expand_int4(const uint8_t* packed, bool offsets, const KGroup* groups, int64_t group_count,
                    uint8_t* panel) {
  constexpr int64_t nr = kPanelColumns;
  const auto word = [&](int64_t at) {
    uint16_t value;
    std::memcpy(&value, packed + 2 * at, sizeof value);
    return value;
  };
  for (int64_t g = 0; g < group_count; ++g) {
    std::memcpy(panel, packed, kScaleBytes);  // the sums are not needed
    panel += kScaleBytes;
    packed += int4_header_bytes(nr);
    for (int64_t first = 0; first < groups[g].length; first += kInt4Block) {
      const uint8_t* bytes = packed + nr * (offsets ? 4 : 2);
      for (int64_t k = 0; k < kInt4Block; ++k)
        for (int64_t j = 0; j < nr; ++j) {
          const int q = bytes[k / 8 * 4 * nr + 4 * j + k % 4] >> (k / 4 % 2 * 4) & 15;
          const uint16_t offset = offsets ? word(nr + j) : static_cast<uint16_t>(128 - 8 * word(j));
          *panel++ = static_cast<uint8_t>(static_cast<uint16_t>(q * word(j) + offset) >> 8);
        }
      packed += int4_block_bytes(nr, offsets);
    }
  }
}

}  // namespace
}  // namespace nd::cpu::ref

namespace nd::cpu {

using namespace ref;

constexpr ReducedGemm ref_bf16 = [] {
  ReducedGemm table{};
  table.element_bytes = 2;
  table.is_slow = true;
  table.multiple = 2;
  table.max_group = 1024;
  table.panel_bytes = bf16_panel_bytes;
  table.pack_panel = bf16_pack_panel;
  table.convert_rows = bf16_convert_rows;
  table.gemm = bf16_gemm;
  return table;
}();

constexpr ReducedGemm ref_i8 = [] {
  ReducedGemm table{};
  table.element_bytes = 1;
  table.is_slow = true;
  table.multiple = 4;
  table.max_group = 512;
  table.scale_floats = 2;
  table.panel_bytes = i8_panel_bytes;
  table.pack_panel = i8_pack_panel;
  table.convert_rows = i8_convert_rows;
  table.gemm = i8_gemm;
  table.expand_int4 = i8_expand_int4;
  return table;
}();

}  // namespace nd::cpu
