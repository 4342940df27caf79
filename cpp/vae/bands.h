// A chain of convolutions with little memory: band after band of rows, the whole image only between segments
// of the chain, each written over the one before.
//
// Group normalisation needs the mean and variance of the whole image. Those of a segment's first norm are
// taken while its input is written; each further norm inside a segment costs a pass over the image that
// computes the segment up to there and keeps nothing but the moments. So nothing is estimated and no band
// differs from another: the result is that of the whole image up to rounding.
#pragma once
#include <vector>

#include "nn/backend.h"
#include "vae/chain.h"

namespace nd {

/// How to run a chain: links before `first` and from `last` on with the whole image at once, those between in
/// segments, band by band.
struct Plan {
  size_t first = 0, last = 0;
  std::vector<size_t> cuts;  // where segments end, ascending; the last one is `last`
  int64_t rows = 0;          // of output in one band
  bool fp16 = false;         // whole images in half precision (2⁻¹² of a value is lost)

  bool banded() const { return first < last; }
};

/// Links plan.first … plan.last of an image in `x`, or in `source` where x is empty; the result goes to
/// `target`, or is returned where that is null.
Tensor run_in_bands(ForwardContext& ctx, const Chain& chain, const Plan& plan, Tensor x,
                    const PlanarSource& source, const PlanarTarget* target);

}  // namespace nd
