// The packed weight matrix of linear layers and convolutions, and the activations that it is multiplied with,
// in whichever precision the layer computes.
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "weights/weight_table.h"
#include "cpu/kernels/int4.h"
#include "cpu/kernels/reduced_gemm.h"
#include "cpu/context.h"
#include "nn/loader.h"
#include "weights/formats/int4_rows.h"

namespace nd::cpu {

inline int64_t round_up(int64_t x, int64_t multiple) {
  return (x + multiple - 1) / multiple * multiple;
}

/// The length of equal pieces of `total`, none longer than `longest`, each a multiple of `multiple`.
inline int64_t piece_length(int64_t total, int64_t longest, int64_t multiple) {
  const int64_t pieces = (total + longest - 1) / longest;
  return round_up((total + pieces - 1) / pieces, multiple);
}

/// What one output row reads: `taps_y` rows of `taps_x` neighbouring pixels of `channels`. 1×1 for a linear
/// layer.
struct Inner {
  int64_t taps_y = 1, taps_x = 1, channels = 0;
  int64_t size() const { return taps_y * taps_x * channels; }
};

/// How a pixel's channels lie in memory for a matrix's kernels.
struct PixelFormat {
  const ReducedGemm* low;  // null: float32
  int64_t channels, padded, group;
};

/// Writes the inner.size() floats of one output row, [taps_y][taps_x][channels]; with several planes the row
/// of each, one after the other: as many matrices of one shape, made from the same stored row. Called from
/// the pool's threads. It owns copies of what it reads from, as it may be called as long as the matrix lives.
using FillRow = std::function<void(int64_t row, float* out)>;

/// A row as it is stored: elements of one tensor, one after the other.
struct StoredRow {
  const StoredTensor* tensor;
  int64_t begin;
};

/// Where a matrix's rows come from.
struct RowSource {
  FillRow fill;
  /// Where each row is stored; null where the stored order is another than the matrix's.
  std::function<StoredRow(int64_t row)> stored;
};

/// n×k weights in the panels of a kernel table. 64-byte aligned, zero-padded to whole panels.
///
/// Two kinds are kept smaller than the kernels want them: four-bit weights as nibbles, of which each task of
/// a product expands the panel that it works on; and streamed ones not at all, which are read and packed when
/// a layer needs them (Panels).
class PackedMatrix {
 public:
  PackedMatrix() = default;
  PackedMatrix(const Device& device, Loader& loader, Compute compute, int64_t n, const Inner& inner,
               RowSource source, int64_t planes = 1);

  Compute compute() const { return compute_; }
  /// What its products really multiply: float32 where the table has nothing narrower.
  Compute multiplies() const { return low_ ? compute_ : Compute::f32; }
  const ReducedGemm* low() const { return low_; }
  int64_t n() const { return n_; }
  int64_t k() const { return inner_.taps_y * inner_.taps_x * padded_; }
  int64_t channels() const { return inner_.channels; }
  int64_t padded_channels() const { return padded_; }  // of one pixel, as the kernels want them
  int64_t group() const { return group_; }             // channels with one scale
  int64_t groups_per_pixel() const { return (padded_ + group_ - 1) / group_; }
  int64_t panel_bytes() const { return panel_bytes_; }
  int64_t plane_bytes() const { return plane_bytes_; }
  int64_t bytes() const { return planes_ * plane_bytes_; }
  PixelFormat format() const { return {low_, inner_.channels, padded_, group_}; }
  /// The inner dimension over an image whose rows are `row_pixels` pixels long.
  std::vector<KGroup> groups(int64_t row_pixels) const;
  /// groups(1): all there is to know for a linear layer.
  const std::vector<KGroup>& static_groups() const { return groups_; }

 private:
  friend class Panels;
  /// Writes panel `panel` of every plane to its place in `to`.
  void pack(int64_t panel, uint8_t* to) const;
  /// Whether the rows of `source` can be kept as nibbles; then says which.
  bool keeps_int4(const Loader& loader, const RowSource& source);
  /// Writes panel `panel` as nibbles to `to`.
  void pack_int4(int64_t panel, const RowSource& source, uint8_t* to) const;
  void allocate(size_t bytes);

  struct Free {
    Free() {}
    Free(void* own, size_t length) : pages(own), bytes(length) {}
    void operator()(uint8_t* p) const;
    void* pages = nullptr;  // of a large matrix, which has a mapping of its own
    size_t bytes = 0;
  };
  Compute compute_ = Compute::f32;
  const ReducedGemm* low_ = nullptr;
  const Kernels* kernels_ = nullptr;
  int64_t n_ = 0, padded_ = 0, group_ = 1, panel_bytes_ = 0, plane_bytes_ = 0, planes_ = 1;
  Inner inner_;
  std::vector<KGroup> groups_;
  std::unique_ptr<uint8_t[], Free> data_;
  Int4Kind int4_ = Int4Kind::none;
  int64_t int4_panel_bytes_ = 0;  // of a panel
  FillRow fill_;                  // of a streamed matrix
};

/// A matrix's panels for as long as one layer needs them: the matrix's own, or read into the run's memory.
class Panels {
 public:
  Panels(Context& ctx, const PackedMatrix& matrix);
  const PackedMatrix& matrix() const { return matrix_; }
  /// Null where each panel has to be expanded.
  const uint8_t* data(int64_t plane = 0) const { return data_ + plane * matrix_.plane_bytes(); }
  bool expands() const { return matrix_.int4_ != Int4Kind::none; }
  /// The panel in memory of the calling thread, valid until its next call.
  const uint8_t* expanded(int64_t panel) const;

 private:
  const PackedMatrix& matrix_;
  Scratch<uint8_t> read_;
  const uint8_t* data_;
};

/// Pixels (or tokens) as a matrix's kernels read them: float32 as they are, or narrowed with their scales.
class PixelBuffer {
 public:
  PixelBuffer(Context& ctx, const PixelFormat& format, int64_t pixels);
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

}  // namespace nd::cpu
