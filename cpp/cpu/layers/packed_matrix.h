// The packed weight matrix of linear layers and convolutions, in the precision of the layer.
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "cpu/context.h"
#include "cpu/kernels/int4.h"
#include "cpu/layers/pixel_buffer.h"
#include "nn/loader.h"
#include "weights/formats/int4_rows.h"
#include "weights/weight_table.h"

namespace nd::cpu {

/// Writes the inner.size() floats of one output row, [taps_y][taps_x][channels]. With several planes, which
/// are matrices of one shape made from the same stored row, it writes the row of each, one after the other.
/// It is called from the pool's threads and, for streamed weights, as long as the matrix lives: it owns
/// copies of what it captures.
using FillRow = std::function<void(int64_t row, float* out)>;

/// A row as it is stored: consecutive elements of one tensor.
struct StoredRow {
  const StoredTensor* tensor;
  int64_t begin;
};

/// Where the rows of a matrix come from.
struct RowSource {
  FillRow fill;
  /// Where each row is stored, or null if rows are not stored in the order that `fill` writes.
  std::function<StoredRow(int64_t row)> stored;
};

/// n×k weights in the panels of a kernel table, 64-byte aligned and zero-padded to whole panels.
///
/// Two kinds of weights are kept in less memory. int4 weights stay int4, and each task of a product expands
/// its panel to int8. Streamed weights are not kept at all, but read and packed when a layer needs them
/// (Panels).
class PackedMatrix {
 public:
  PackedMatrix() = default;
  PackedMatrix(const Device& device, Loader& loader, Compute compute, int64_t n, const Inner& inner,
               RowSource source, int64_t planes = 1);

  Compute compute() const { return compute_; }
  /// The precision that products really use: float32 if the table has no such reduced precision.
  Compute product_compute() const { return format_.reduced ? compute_ : Compute::f32; }
  const ReducedGemm* reduced() const { return format_.reduced; }
  const PixelFormat& format() const { return format_; }
  const Inner& inner() const { return inner_; }
  int64_t n() const { return n_; }
  int64_t k() const { return inner_.taps_y * inner_.taps_x * format_.padded; }
  int64_t panel_bytes() const { return panel_bytes_; }
  int64_t plane_bytes() const { return plane_bytes_; }
  int64_t bytes() const { return planes_ * plane_bytes_; }
  /// The inner dimension where the pixels of a window are contiguous: all there is for a linear layer.
  const std::vector<KGroup>& groups() const { return groups_; }

 private:
  friend class Panels;
  /// Writes panel `panel` of every plane to its place in `to`.
  void pack(int64_t panel, uint8_t* to) const;
  /// Floats that packing so many rows takes.
  int64_t pack_floats(int64_t rows) const;
  /// The kind of int4 weights that the rows can be kept as, if any.
  Int4Kind find_int4_kind(const Loader& loader, const RowSource& source) const;
  /// Writes panel `panel` as int4 to `to`.
  void pack_int4(int64_t panel, const RowSource& source, uint8_t* to) const;
  void allocate(size_t bytes);

  struct Free {
    Free() {}  // NOLINT(modernize-use-equals-default): GCC needs it before the class is complete
    Free(void* own, size_t length) : pages(own), bytes(length) {}
    void operator()(uint8_t* p) const;
    void* pages = nullptr;  // of a large matrix, which has a mapping of its own
    size_t bytes = 0;
  };
  Compute compute_ = Compute::f32;
  const Kernels* kernels_ = nullptr;
  PixelFormat format_;
  Inner inner_;
  int64_t n_ = 0, planes_ = 1, panel_bytes_ = 0, plane_bytes_ = 0;
  std::vector<KGroup> groups_;
  std::unique_ptr<uint8_t[], Free> data_;
  Int4Kind int4_ = Int4Kind::none;
  int64_t int4_panel_bytes_ = 0;
  FillRow fill_;  // of a streamed matrix, else null
};

/// The panels of a matrix for as long as a layer needs them: the matrix's own, or read into memory of the
/// forward pass.
class Panels {
 public:
  Panels(Context& ctx, const PackedMatrix& matrix);
  const PackedMatrix& matrix() const { return matrix_; }
  /// Null for int4, whose panels have to be expanded.
  const uint8_t* data(int64_t plane = 0) const { return data_ + plane * matrix_.plane_bytes(); }
  bool are_int4() const { return matrix_.int4_ != Int4Kind::none; }
  /// Expands a panel of int4 into memory of the calling thread, which is valid until the thread's next call.
  const uint8_t* expand(int64_t panel) const;

 private:
  const PackedMatrix& matrix_;
  Scratch<uint8_t> read_;
  const uint8_t* data_;
};

}  // namespace nd::cpu
