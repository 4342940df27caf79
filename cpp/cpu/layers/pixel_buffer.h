// Pixels (or tokens) in the precision of a product: the padding and grouping of their channels, and a buffer
// for them.
#pragma once
#include <vector>

#include "cpu/context.h"
#include "cpu/kernels/reduced_gemm.h"

namespace nd::cpu {

inline int64_t round_up(int64_t x, int64_t multiple) {
  return (x + multiple - 1) / multiple * multiple;
}

/// Splits `total` into equal pieces of at most `max` and rounds their length up to a multiple of `multiple`.
inline int64_t piece_length(int64_t total, int64_t max, int64_t multiple) {
  const int64_t pieces = (total + max - 1) / max;
  return round_up((total + pieces - 1) / pieces, multiple);
}

/// The inner dimension of a product: a window of taps_y rows of taps_x adjacent pixels. 1×1 for a linear
/// layer.
struct Inner {
  int64_t taps_y = 1, taps_x = 1, channels = 0;
  int64_t size() const { return taps_y * taps_x * channels; }
};

/// The memory layout of a pixel's channels.
struct PixelFormat {
  const ReducedGemm* reduced = nullptr;  // null: float32
  int64_t channels = 0;
  int64_t padded = 0;  // channels, including the zero padding that kernels need
  int64_t group = 1;   // channels that share a scale; all channels if there are no scales

  PixelFormat() = default;
  /// int4: groups consist of whole blocks of int4 weights.
  PixelFormat(const ReducedGemm* reduced, int64_t channels, bool int4 = false);

  int64_t bytes() const { return padded * (reduced ? reduced->element_bytes : int64_t{sizeof(float)}); }
  int64_t groups() const { return (padded + group - 1) / group; }
  int64_t scale_floats() const { return reduced ? groups() * reduced->scale_floats : 0; }
  /// The inner dimension of windows in an image with rows of `row_pixels` pixels.
  std::vector<KGroup> window_groups(const Inner& inner, int64_t row_pixels) const;
};

/// Pixels in the working memory of the forward pass, with their scales if the precision has any.
class PixelBuffer {
 public:
  PixelBuffer(Context& ctx, const PixelFormat& format, int64_t pixels);
  /// Converts `count` pixels into the buffer from pixel `first` on. scale, shift and silu are those of
  /// Kernels::affine_rows.
  void write(int64_t first, const float* x, int64_t count, const float* scale, const float* shift,
             bool silu) const;
  void clear(int64_t first, int64_t count) const;
  const uint8_t* data() const { return data_.data(); }
  const float* scales() const { return scales_.data(); }

 private:
  const Kernels& kernels_;
  PixelFormat format_;
  Scratch<uint8_t> data_;
  Scratch<float> scales_;
};

}  // namespace nd::cpu
