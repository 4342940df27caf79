// Which parts of a chain to run in bands, so that it stays within the memory allowed and takes the least
// time.
#pragma once
#include <functional>

#include "vae/bands.h"

namespace nd {

/// The cheapest plan for which bytes(plan) ≤ most; where there is none, the one that needs least. `input` is
/// the image before the chain.
///
/// What can be done with a level, from the lowest resolution to the highest: run it whole; write its image
/// after every convolution, and compute nothing twice; write it after every residual block; and, of the
/// highest alone, keep nothing but what comes from the level before, at as many passes as there are norms.
Plan choose_plan(const Chain& chain, const ImageShape& input, size_t most,
                 const std::function<size_t(const Plan&)>& bytes);

}  // namespace nd
