// Images too large for the memory allowed, as overlapping tiles of equal size that are blended linearly where
// they overlap.
#pragma once
#include <cstdint>
#include <vector>

#include "nn/run.h"

namespace nd {

/// In pixels of the latents: tiles of `size` a side, of which at least `overlap` are shared with each
/// neighbour.
struct Tiling {
  int64_t size = 64;
  int64_t overlap = 16;
  /// Error invalid_argument unless size ≥ 1 and 0 ≤ overlap < size.
  void check() const;
};

/// One side of an image cut into tiles: the fewest that overlap enough, spread evenly from edge to edge.
struct TileAxis {
  /// length ≥ 1 pixels; without tiling, or where one tile suffices, the whole length is one tile.
  TileAxis(int64_t length, const Tiling* tiling);

  int64_t count() const { return static_cast<int64_t>(begins.size()); }
  /// Share of tile `index` in each of its pixels, with `scale` pixels of output for each of the axis. At
  /// every output pixel the shares of all tiles add up to 1.
  std::vector<float> shares(int64_t index, int64_t scale) const;

  int64_t size;                 // of every tile
  std::vector<int64_t> begins;  // ascending

 private:
  double ramp(int64_t index, double at, int64_t scale) const;
};

/// Rows [y, y+h) and columns [x, x+w) of a planar image [c][height][width] → [1][h][w][c].
Feature crop_planar(Run& run, const float* image, int64_t c, int64_t height, int64_t width, int64_t y,
                    int64_t x, int64_t h, int64_t w);
/// image [c][height][width] at (y, x) += tile [1][h][w][c] · row_shares[h] · column_shares[w]
void add_tile(Run& run, const Feature& tile, const std::vector<float>& row_shares,
              const std::vector<float>& column_shares, int64_t y, int64_t x, int64_t height, int64_t width,
              float* image);

}  // namespace nd
