// Chooses which parts of a chain run in bands: the fastest plan that fits in the memory allowed.
#pragma once
#include <functional>
#include <mutex>
#include <vector>

#include "vae/bands.h"

namespace nd {

/// The fastest plan for which bytes(plan) ≤ max_bytes; where there is none, the one that needs the least
/// memory. Plans with a tensor of more than `max_elements` (see Backend::max_elements()) are left out,
/// unless all have one. `input` is the shape of the image before the chain.
///
/// Each level can run in one of these ways, in the order of less memory and more time: on the whole image;
/// storing the image after every convolution, which computes nothing twice; storing it after every residual
/// block; and, at the highest resolution only, storing only the input of the level, with one pass for each
/// norm.
Plan choose_plan(const Chain& chain, const ImageShape& input, size_t max_bytes, int64_t max_elements,
                 const std::function<size_t(const Plan&)>& bytes);

/// The plans of one chain that were chosen last: choosing one measures many. Any thread may use it.
class KnownPlans {
 public:
  /// As choose_plan(). Only the size of the input and max_bytes may differ from one call to the next.
  Plan choose(const Chain& chain, const ImageShape& input, size_t max_bytes, int64_t max_elements,
              const std::function<size_t(const Plan&)>& bytes);

 private:
  static constexpr size_t kMost = 8;
  struct Known {
    int64_t h = 0, w = 0;
    size_t max_bytes = 0;
    Plan plan;
  };
  std::mutex mutex_;
  std::vector<Known> known_;  // the latest last
};

}  // namespace nd
