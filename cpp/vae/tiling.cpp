#include "vae/tiling.h"

#include <algorithm>
#include <string>

#include "core/error.h"

namespace nd {

void Tiling::check() const {
  if (size >= 1 && overlap >= 0 && overlap < size) return;
  throw Error(
      ErrorCode::invalid_argument,
      "Expected tiling.size of at least 1 and tiling.overlap between 0 and size - 1 but received size " +
          std::to_string(size) + " and overlap " + std::to_string(overlap));
}

TileAxis::TileAxis(int64_t length, const Tiling* tiling) : size(length), begins{0} {
  if (!tiling || tiling->size >= length) return;
  tiling->check();
  size = tiling->size;
  const int64_t stride = tiling->size - tiling->overlap;
  const int64_t steps = (length - size + stride - 1) / stride;
  for (int64_t i = 1; i <= steps; ++i) begins.push_back(i * (length - size) / steps);
}

// Rises from 0 to 1 over what tile `index` shares with the one before it and falls likewise before the next
// one.
double TileAxis::ramp(int64_t index, double at, int64_t scale) const {
  const size_t i = static_cast<size_t>(index);
  const double begin = static_cast<double>(begins[i] * scale),
               end = begin + static_cast<double>(size * scale);
  if (at < begin || at > end) return 0;
  double share = 1;
  if (i > 0) {
    const double shared = static_cast<double>((begins[i - 1] + size - begins[i]) * scale);
    if (shared > 0) share *= std::min(1.0, (at - begin) / shared);
  }
  if (i + 1 < begins.size()) {
    const double shared = static_cast<double>((begins[i] + size - begins[i + 1]) * scale);
    if (shared > 0) share *= std::min(1.0, (end - at) / shared);
  }
  return share;
}

std::vector<float> TileAxis::shares(int64_t index, int64_t scale) const {
  std::vector<float> result;
  for (int64_t i = 0; i < size * scale; ++i) {
    const double at = static_cast<double>(begins[static_cast<size_t>(index)] * scale + i) + 0.5;
    // Two tiles' ramps add up to 1; where three overlap they do not, hence the division.
    double sum = 0;
    for (int64_t tile = 0; tile < count(); ++tile) sum += ramp(tile, at, scale);
    result.push_back(static_cast<float>(ramp(index, at, scale) / sum));
  }
  return result;
}

Feature crop_planar(Run& run, const float* image, int64_t c, int64_t height, int64_t width, int64_t y,
                    int64_t x, int64_t h, int64_t w) {
  Feature out(run, 1, h, w, c);
  run.parallel(h, [&](int64_t row, int) {
    for (int64_t j = 0; j < c; ++j) {
      const float* from = image + (j * height + y + row) * width + x;
      float* to = out.data() + row * w * c + j;
      for (int64_t i = 0; i < w; ++i) to[i * c] = from[i];
    }
  });
  return out;
}

void add_tile(Run& run, const Feature& tile, const std::vector<float>& row_shares,
              const std::vector<float>& column_shares, int64_t y, int64_t x, int64_t height, int64_t width,
              float* image) {
  run.parallel(tile.h, [&](int64_t row, int) {
    for (int64_t j = 0; j < tile.c; ++j) {
      const float* from = tile.data() + row * tile.w * tile.c + j;
      float* to = image + (j * height + y + row) * width + x;
      const float share = row_shares[static_cast<size_t>(row)];
      for (int64_t i = 0; i < tile.w; ++i)
        to[i] += from[i * tile.c] * share * column_shares[static_cast<size_t>(i)];
    }
  });
}

}  // namespace nd
