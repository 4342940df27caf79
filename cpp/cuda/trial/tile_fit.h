// From times of one tile's kernel to the constants of its model.
#pragma once
#include "cuda/tile_times.h"

namespace nd::cuda {

/// Microseconds of one tile's kernel. Both full grids fill all multiprocessors once, with as many blocks as
/// run side by side; the last has one block for each.
struct TileMeasurement {
  double long_full = 0, short_full = 0, long_alone = 0;
};
/// Steps of the sums above.
constexpr int kLongSteps = 63, kShortSteps = 18;

/// What the model has for the first of them.
double modelled_long_full(const TileTime& time);

/// The time of a tile that gives what was measured, in the units of the model. `card`: microseconds of this
/// GPU for one of the model. Where the measurements contradict each other, `guess` is scaled to the long one.
TileTime fit_tile(const TileTime& guess, const TileMeasurement& measured, double card);

}  // namespace nd::cuda
