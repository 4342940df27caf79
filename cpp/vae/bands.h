// A chain of convolutions with little memory: band after band of rows, the whole image only between segments
// of the chain, each written over the one before.
//
// Group normalisation needs the mean and variance of the whole image. Those of a segment's first norm are
// taken while its input is written; each further norm inside a segment costs a pass over the image that
// computes the segment up to there and keeps nothing but the moments. So nothing is estimated and no band
// differs from another: the result is that of the whole image up to rounding.
#pragma once
#include <vector>

#include "vae/chain.h"

namespace nd {

/// How to run a chain: links before `first` and from `last` on with the whole image at once, those between in
/// segments, band by band.
struct Plan {
  size_t first = 0, last = 0;
  std::vector<size_t> cuts;  // where segments end, ascending; the last one is `last`
  int64_t rows = 0;          // of output in one band
  bool halves = false;       // whole images as halves (2⁻¹² of a value is lost), not as floats

  bool banded() const { return first < last; }
};

/// An image outside of the run's memory, [c][h][w], of which x · scale + shift is read.
struct PlanarSource {
  const float* data = nullptr;
  Side side;
  float scale = 1, shift = 0;
};

/// Links plan.first … plan.last of an image in `x`, or in `planes` where x is empty; the result goes to `out`
/// ([c][h][w]), or is returned where out is null.
Feature run_in_bands(Run& run, const Chain& chain, const Plan& plan, Feature x, const PlanarSource& planes,
                     float* out);

/// Rows [y, y + rows) of an image [c][h][w] → [1][rows][w][c].
Feature read_planes(Run& run, const PlanarSource& planes, Rows rows);
/// Rows of x, whose first one is row `first` of the image, to an image [c][h][w].
void write_planes(Run& run, const Feature& x, int64_t first, Rows rows, int64_t height, float* out);

}  // namespace nd
