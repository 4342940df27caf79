// Runs a chain of convolutions in little memory, one band of rows after the other. Whole images exist only
// between segments of the chain, and each overwrites the one before.
//
// Group normalization needs the mean and variance of the whole image. For the first norm of a segment they
// are computed while its input is written. Each further norm in a segment costs a pass over the image, which
// computes the segment up to that norm and keeps only the moments. Nothing is estimated, so there are no
// seams: the result equals that of the whole image up to rounding.
#pragma once
#include <vector>

#include "nn/backend.h"
#include "vae/chain.h"

namespace nd {

/// How to run a chain: the links before `first` and from `last` on run on the whole image at once, those
/// between them in segments, band by band.
struct Plan {
  size_t first = 0, last = 0;
  std::vector<size_t> cuts;  // where segments end, ascending; the last one is `last`
  int64_t rows = 0;          // of output in one band
  bool fp16 = false;         // stores whole images in half precision (relative error 2⁻¹²)

  bool banded() const { return first < last; }
};

/// Runs links plan.first … plan.last on the image `x`, or on `source` where x is empty. Writes the result to
/// `target`, or returns it where that is null.
Tensor run_in_bands(ForwardContext& ctx, const Chain& chain, const Plan& plan, Tensor x,
                    const PlanarSource& source, const PlanarTarget* target);

}  // namespace nd
