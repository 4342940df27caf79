// Matrix products at less than float32: bfloat16 weights and activations, or int8 weights and activations
// with scales. Sums, epilogue, inputs and outputs stay float32; only what the inner loop multiplies is
// narrow.
#pragma once
#include "cpu/kernels/kernels.h"

namespace nd::cpu {

/// A run of the inner dimension that has one scale per row of A and one per column: `length` elements
/// beginning `offset` elements after a row's start; `scale` is the place of its activation scales after the
/// row's first ones. length is a multiple of ReducedGemm::multiple. bfloat16 has no scales, its groups are
/// only runs.
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
  const float* scales = nullptr;        // int8: [pixels][scales_per_pixel][2]
  int64_t scales_per_pixel = 0;
};

/// The right operand: ⌈n/nr⌉ panels of panel_bytes as pack_panel writes them.
struct ReducedRhs {
  const uint8_t* panels = nullptr;
  int64_t panel_bytes = 0;
};

/// GemmArgs of reduced precision; the groups are its inner dimension.
struct ReducedGemmArgs {
  int64_t m = 0, n = 0;
  const KGroup* groups = nullptr;
  int64_t group_count = 0;
  ReducedLhs lhs;
  ReducedRhs rhs;
  GemmEpilogue epilogue;
};

struct ReducedGemm {
  int64_t element_bytes;  // of one activation: 2, 1
  int64_t multiple;       // channels are padded with zeros to a multiple of this: 2, 4
  int64_t longest_group;  // in elements: longer ones lose accuracy (int8), or are too coarse to block for L2
  int64_t scale_floats;   // of one group of one row: 0, or 2 (int8: step, then lowest value)

  /// Bytes of one panel of weights; a multiple of 64.
  int64_t (*panel_bytes)(const KGroup* groups, int64_t group_count);
  /// Packs up to nr weight rows, each the groups' elements one after the other.
  void (*pack_panel)(const float* const* rows, int64_t count, const KGroup* groups, int64_t group_count,
                     uint8_t* panel);
  /// out[r] = narrow(f(x[r]·scale + shift)), with Kernels::affine_rows' meaning of scale, shift and silu.
  /// Output rows are `padded` elements (channels beyond c are zeros). int8: channels are cut in groups of
  /// `group` (the last one shorter), each from its lowest to its highest value in 255 steps; step and lowest
  /// value go to scales[r][⌈padded/group⌉][2]. Zero bytes with zero scales are zeros. NaN and infinity give a
  /// NaN step.
  void (*convert_rows)(const float* x, int64_t rows, int64_t c, const float* scale, const float* shift,
                       bool silu, int64_t padded, int64_t group, void* out, float* scales);
  /// Rows [m0,m1) × panels [p0,p1), as Kernels::gemm.
  void (*gemm)(const ReducedGemmArgs& args, int64_t m0, int64_t m1, int64_t p0, int64_t p1);
  /// Kernels::winograd_input, narrowed as convert_rows narrows: out [16][tiles][padded], scales
  /// [16][tiles][⌈padded/group⌉][2]. Channels from c to `padded` are zero, but int8 may hold anything there
  /// (their weights are zero). Null where nothing is gained.
  void (*winograd_input)(const float* x, const int64_t* offset, int64_t tiles, int64_t c, int64_t row,
                         int64_t padded, int64_t group, void* out, float* scales);
  /// int8 only: a panel of nibbles (nibbles.h) as pack_panel would lay it out; `offsets` as it was packed.
  void (*expand)(const uint8_t* nibbles, bool offsets, const KGroup* groups, int64_t group_count,
                 uint8_t* panel) = nullptr;
};

}  // namespace nd::cpu
