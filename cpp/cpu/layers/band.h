// A band: some rows of an image (or of all images), copied with zeros around them, normalised and narrowed on
// the way.
#pragma once
#include "cpu/layers/pixel_buffer.h"

namespace nd::cpu {

struct Band {
  int64_t image, images;  // copied images
  int64_t first,
      rows;  // rows of the input, the first one may be negative; rows outside the image become zeros
  int64_t left, width;  // pixels of zeros before each row, and pixels of a whole row
};

/// `to` receives [images][rows][width] pixels of x, of SiLU(x·scale + shift) where `factors`
/// (GroupNorm::affine) is given. Bands stay small enough for the last-level cache, so this copy costs little
/// and replaces an im2col buffer.
void copy_band(Context& ctx, const Tensor& x, const Tensor& factors, const Band& band, const PixelBuffer& to);

/// Rows of output in one band, so that `row_bytes` for each of them stays within a band's share of the cache.
/// A power of two of equal parts; a multiple of `multiple`.
int64_t band_rows(int64_t rows, int64_t row_bytes, int64_t multiple);

}  // namespace nd::cpu
