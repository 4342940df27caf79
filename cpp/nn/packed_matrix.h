// The packed weight matrix of linear layers and convolutions, and the activations that it is multiplied with,
// in whichever precision the layer computes.
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "core/weights.h"
#include "kernels/low_matrix.h"
#include "nn/run.h"

namespace nd {

/// What one output row reads: `taps_y` rows of `taps_x` neighbouring pixels of `channels`. 1×1 for a linear
/// layer.
struct Inner {
  int64_t taps_y = 1, taps_x = 1, channels = 0;
  int64_t size() const { return taps_y * taps_x * channels; }
};

/// How a pixel's channels lie in memory for a matrix's kernels.
struct PixelFormat {
  const LowMatrix* low;  // null: float32
  int64_t channels, padded, group;
};

/// n×k weights in the panels of a kernel table. 64-byte aligned, zero-padded to whole panels.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  /// fill(row, out) writes the inner.size() floats of one output row, [taps_y][taps_x][channels]; called from
  /// the pool's threads, each row once. With several planes it writes the row of each, one after the other:
  /// as many matrices of one shape, made from the same stored row.
  PackedMatrix(Loader& loader, Compute compute, int64_t n, const Inner& inner,
               const std::function<void(int64_t, float*)>& fill, int64_t planes = 1);

  Compute compute() const { return compute_; }
  /// What its products really multiply: float32 where the table has nothing narrower.
  Compute multiplies() const { return low_ ? compute_ : Compute::f32; }
  const LowMatrix* low() const { return low_; }
  int64_t n() const { return n_; }
  int64_t k() const { return inner_.taps_y * inner_.taps_x * padded_; }
  int64_t channels() const { return inner_.channels; }
  int64_t padded_channels() const { return padded_; }  // of one pixel, as the kernels want them
  int64_t group() const { return group_; }             // channels with one scale
  int64_t groups_per_pixel() const { return (padded_ + group_ - 1) / group_; }
  int64_t panel_bytes() const { return panel_bytes_; }
  const uint8_t* data(int64_t plane = 0) const { return data_.get() + plane * plane_bytes_; }
  PixelFormat format() const { return {low_, inner_.channels, padded_, group_}; }
  /// The inner dimension over an image whose rows are `row_pixels` pixels long.
  std::vector<KGroup> groups(int64_t row_pixels) const;
  /// groups(1): all there is to know for a linear layer.
  const std::vector<KGroup>& static_groups() const { return groups_; }

 private:
  struct Free {
    Free() {}
    Free(void* own, size_t length) : pages(own), bytes(length) {}
    void operator()(uint8_t* p) const;
    void* pages = nullptr;  // of a large matrix, which has a mapping of its own
    size_t bytes = 0;
  };
  Compute compute_ = Compute::f32;
  const LowMatrix* low_ = nullptr;
  int64_t n_ = 0, padded_ = 0, group_ = 1, panel_bytes_ = 0, plane_bytes_ = 0;
  Inner inner_;
  std::vector<KGroup> groups_;
  std::unique_ptr<uint8_t[], Free> data_;
};

/// Pixels (or tokens) as a matrix's kernels read them: float32 as they are, or narrowed with their scales.
class PixelBuffer {
 public:
  PixelBuffer(Run& run, const PixelFormat& format, int64_t pixels);
  /// Writes `count` pixels beginning at `first`; scale, shift and silu as in Kernels::affine_rows.
  void write(int64_t first, const float* x, int64_t count, const float* scale, const float* shift,
             bool silu) const;
  void clear(int64_t first, int64_t count) const;
  const uint8_t* data() const { return data_.data(); }
  const float* scales() const { return scales_.data(); }

 private:
  const Kernels& kernels_;
  PixelFormat format_;
  int64_t pixel_bytes_, pixel_scales_;
  Scratch<uint8_t> data_;
  Scratch<float> scales_;
};

/// Computes args.m rows: `pixels` (or, for float32 only, args.a and args.lda where it is null) times
/// `matrix`, over an image of `row_pixels` a row, with the weights' plane `plane`. Cut into tasks of the same
/// shape whatever the number of threads.
void run_product(Run& run, const PackedMatrix& matrix, const PixelBuffer* pixels, int64_t row_pixels,
                 LowGemmArgs args, int64_t plane = 0);

}  // namespace nd
