// A band: some rows of one image or of all images, copied with zeros around them; the copy normalizes and
// converts.
#pragma once
#include "cpu/layers/pixel_buffer.h"

namespace nd::cpu {

struct Band {
  int64_t image, images;  // that are copied
  int64_t first, rows;    // rows of the input, from below 0 on; those outside the image are zeros
  int64_t left, width;    // pixels of zeros before each row, and pixels of a whole row
};

/// Copies [images][rows][width] pixels of x, or of SiLU(x·scale + shift) if `factors` (GroupNorm::affine) is
/// given. Bands fit in the last-level cache, so the copy costs little; it replaces an im2col buffer.
void copy_band(Context& ctx, const Tensor& x, const Tensor& factors, const Band& band, const PixelBuffer& to);

/// Rows of output in a band, a multiple of `multiple`, so that the band fits in its part of the cache with
/// `row_bytes` for each row. Bands are about equally high.
int64_t band_rows(int64_t rows, int64_t row_bytes, int64_t multiple);

}  // namespace nd::cpu
