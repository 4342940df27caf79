// The product of activations and packed weights, cut into tasks for the thread pool.
#pragma once
#include "cpu/layers/packed_matrix.h"

namespace nd::cpu {

/// What decides how a product is cut into tasks.
struct ProductShape {
  int64_t rows = 0;
  int64_t panels = 0;
  int64_t panel_bytes = 0;
  int64_t pixel_bytes = 0;  // padded channels of one pixel (or token)
  bool reduced = false;     // bfloat16 or int8
  bool int4 = false;        // a task first expands its panel
};

/// The tasks of a product, each of which multiplies some rows by one panel. They do not depend on the number
/// of threads.
class ProductTasks {
 public:
  struct Task {
    int64_t panel;
    int64_t first, end;  // rows
  };

  explicit ProductTasks(const ProductShape& shape);
  int64_t count() const { return panels_ * row_pieces_; }
  Task operator[](int64_t index) const;

 private:
  int64_t rows_, panels_, rows_each_, row_pieces_;
  bool weights_are_smaller_;
};

/// The rows that are multiplied: windows of a pixel buffer, or float32 rows that are read in place.
struct ProductInput {
  int64_t rows = 0;
  const PixelBuffer* pixels = nullptr;  // null: rows of `data`, float32 only
  const float* data = nullptr;
  int64_t ld = 0;                       // floats from one row of `data` to the next
  int64_t row_pixels = 1;               // pixels in a row of the image that the windows lie in
  const int64_t* row_offset = nullptr;  // [rows] where each begins, in elements; null: one row for each pixel
};

/// Counts the operations of a product with so many rows, where they are counted.
void count_product(Context& ctx, const PackedMatrix& weights, int64_t rows);

/// epilogue(input · plane `plane` of the weights).
void run_product(Context& ctx, const Panels& weights, const ProductInput& input, const GemmEpilogue& epilogue,
                 int64_t plane = 0);

}  // namespace nd::cpu
