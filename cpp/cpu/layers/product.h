// The product of activations and packed weights, cut into tasks for the thread pool.
#pragma once
#include "cpu/layers/packed_matrix.h"

namespace nd::cpu {

/// The rows that are multiplied: windows of a pixel buffer, or rows of float32 where they lie.
struct ProductInput {
  int64_t rows = 0;
  const PixelBuffer* pixels = nullptr;  // null: rows of `data`, float32 only
  const float* data = nullptr;
  int64_t ld = 0;                       // floats from one row of `data` to the next
  int64_t row_pixels = 1;               // pixels in a row of the image that windows lie in
  const int64_t* row_offset = nullptr;  // [rows] where each begins, in elements; null: at every pixel
};

/// epilogue(input · weights' plane `plane`). Cut into tasks of the same shape whatever the number of threads.
void run_product(Context& ctx, const Panels& weights, const ProductInput& input, const GemmEpilogue& epilogue,
                 int64_t plane = 0);

}  // namespace nd::cpu
