// Matrix products in reduced precision: weights and activations in bfloat16, or in int8 or int16 with scales.
// Inputs, sums, epilogue and outputs are float32; only the operands of the inner loop are smaller.
#pragma once
#include "cpu/kernels/kernels.h"

namespace nd::cpu {

/// A run of the inner dimension: `length` elements, a multiple of ReducedGemm::multiple, that begin `offset`
/// elements after the start of a row. In int8 and int16 it has one scale for each row of A, `scale` groups
/// after the row's first, and one for each column of B. bfloat16 has no scales.
struct KGroup {
  int64_t offset;
  int64_t length;
  int64_t scale;
};

/// The left operand: pixels (or tokens) as convert_rows wrote them. Row i is the concatenation of the groups,
/// each read from data + (row_offset ? row_offset[i] : i·pixel_elements), in elements.
struct ReducedLhs {
  const void* data = nullptr;
  const int64_t* row_offset = nullptr;  // [m] or null
  int64_t pixel_elements = 0;           // padded channels of one pixel
  const float* scales = nullptr;        // int8, int16: [pixels][scales_per_pixel][2]
  int64_t scales_per_pixel = 0;
};

/// The right operand: ⌈n/nr⌉ panels of panel_bytes as pack_panel writes them.
struct ReducedRhs {
  const uint8_t* panels = nullptr;
  int64_t panel_bytes = 0;
};

/// C = epilogue(A·Bᵀ); the groups are the inner dimension.
struct ReducedGemmArgs {
  int64_t m = 0, n = 0;
  const KGroup* groups = nullptr;
  int64_t group_count = 0;
  ReducedLhs lhs;
  ReducedRhs rhs;
  GemmEpilogue epilogue;
};

/// The inverse of a step or of the scale of a weight must be finite. A group of activations that lie within
/// less than kMinRange is stored as its offset with a step of zero, and a group of weights below kMinWeight
/// as zeros: the error is as small.
constexpr float kMinRange = 255 * 0x1p-126f, kMinWeight = 127 * 0x1p-126f;

/// A row of activations in int8 or int16 is cut into groups of channels. A group stores each value as offset
/// + step·u with u from 0 to 255 (or 127, see simd/gemm_int8_avx2.inc.h), where offset is its lowest value;
/// step and offset are its two scales. int16 has values u on both sides of zero, and an offset of 0.
// NOLINTNEXTLINE(cppcoreguidelines-pro-type-member-init): every table is initialized whole
struct ReducedGemm {
  int64_t element_bytes;  // of one activation: 2 or 1
  int64_t multiple;       // channels are padded with zeros to a multiple of this
  int64_t max_group;     // elements; longer groups lose accuracy (int8, int16) or exceed a K block (bfloat16)
  int64_t scale_floats;  // of one group of one row: 0, or 2 for int8 and int16
  bool is_slow;          // slower than the float32 product of the same table

  /// Bytes of one panel of weights, a multiple of 64.
  int64_t (*panel_bytes)(const KGroup* groups, int64_t group_count);
  /// Packs up to nr weight rows. Each row holds the elements of consecutive groups.
  void (*pack_panel)(const float* const* rows, int64_t count, const KGroup* groups, int64_t group_count,
                     uint8_t* panel);
  /// Converts f(x[r]·scale + shift), with scale, shift and silu as in Kernels::affine_rows. Rows of out are
  /// `padded` elements; channels from c on are zero. int8, int16: groups have `group` channels (the last one
  /// may have fewer), and scales [rows][⌈padded/group⌉][2] receives step and offset. Zero bytes with zero
  /// scales represent zeros. A group with a NaN or an infinity gets a step of NaN.
  void (*convert_rows)(const float* x, int64_t rows, int64_t c, const float* scale, const float* shift,
                       bool silu, int64_t padded, int64_t group, void* out, float* scales);
  /// Rows [m0, m1) × panels [p0, p1), as Kernels::gemm.
  void (*gemm)(const ReducedGemmArgs& args, int64_t m0, int64_t m1, int64_t p0, int64_t p1);
  /// Kernels::winograd_input, converted as convert_rows does: out [16][tiles][padded], scales
  /// [16][tiles][⌈padded/group⌉][2]. Channels from c on are zero in bfloat16 and int16, and unspecified in
  /// int8 (their weights are zero). Null where it is not faster.
  void (*winograd_input)(const float* x, const int64_t* offset, int64_t tiles, int64_t c, int64_t row,
                         int64_t padded, int64_t group, void* out, float* scales);
  /// int8 only: expands a panel of int4 (int4.h) to what pack_panel would have written; `offsets` as it was
  /// packed.
  void (*expand_int4)(const uint8_t* packed, bool offsets, const KGroup* groups, int64_t group_count,
                      uint8_t* panel) = nullptr;
};

}  // namespace nd::cpu
