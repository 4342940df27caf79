#include "cuda/trial/tile_fit.h"

#include <algorithm>

namespace nd::cuda {

double modelled_long_full(const TileTime& time) {
  return kLongSteps * std::max(time.latency, time.resident * time.step) + time.block;
}

TileTime fit_tile(const TileTime& guess, const TileMeasurement& measured, double card) {
  TileTime time = guess;
  const double full = measured.long_full / card;
  const double step = (measured.long_full - measured.short_full) / card / (kLongSteps - kShortSteps);
  const double block = full - kLongSteps * step;
  if (step > 0 && block >= 0) {
    time.step = step / guess.resident;
    time.block = block;
    time.latency = std::clamp((measured.long_alone / card - block) / kLongSteps, time.step, step);
    return time;
  }
  const double scale = full / modelled_long_full(guess);
  time.latency *= scale, time.step *= scale, time.block *= scale;
  return time;
}

}  // namespace nd::cuda
