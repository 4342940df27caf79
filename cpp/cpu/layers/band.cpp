#include "cpu/layers/band.h"

#include <algorithm>

namespace nd::cpu {

namespace {
constexpr int64_t kBandBytes = 8 << 20;
}

int64_t band_rows(int64_t rows, int64_t row_bytes, int64_t multiple) {
  int64_t result = (rows + multiple - 1) / multiple;
  while (result > 1 && result * multiple * row_bytes > kBandBytes) result = (result + 1) / 2;
  return result * multiple;
}

void copy_band(Context& ctx, const Tensor& x, const Tensor& factors, const Band& band,
               const PixelBuffer& to) {
  ctx.parallel(band.images * band.rows, [&](int64_t task, int) {
    const int64_t image = band.image + task / band.rows, y = band.first + task % band.rows;
    const int64_t pixel = task * band.width;
    if (y < 0 || y >= x.h) {
      to.clear(pixel, band.width);
      return;
    }
    const float* factor = factors ? data(factors) + image * 2 * x.c : nullptr;
    to.clear(pixel, band.left);
    to.write(pixel + band.left, data(x) + (image * x.h + y) * x.w * x.c, x.w, factor,
             factor ? factor + x.c : nullptr, factor != nullptr);
    to.clear(pixel + band.left + x.w, band.width - band.left - x.w);
  });
}

}  // namespace nd::cpu
