// From times that were measured on a GPU to the choice between Hopper's kernels and the others.
#pragma once
#include "cuda/hopper_times.h"
#include "cuda/trial/tile_fit.h"

namespace nd::cuda {

/// Microseconds of a kernel that runs everywhere and of Hopper's for the same work.
struct TimePair {
  double everywhere = 0, hopper = 0;
  bool faster() const { return hopper > 0 && hopper < everywhere; }
};

/// Tokens for which attention is measured.
constexpr int64_t kTriedTokens[] = {256, 1024};
constexpr int kTriedLengths = sizeof kTriedTokens / sizeof kTriedTokens[0];

/// Columns of the full grids: as many as a tile's blocks have that run side by side. The kernels that run
/// everywhere compute those of the first tile.
constexpr int trial_columns(int tile) {
  return kHopperTiles[tile].columns * kHopperTiles[tile].blocks;
}

struct HopperMeasurements {
  TileMeasurement everywhere;  // of the kernels that run everywhere, as plan_product() has them
  double modelled_long = 0, modelled_short = 0;  // what it expected of the full grids
  TileMeasurement tiles[kHopperTileCount];
  TimePair attention[kHopperAttentionCount][kTriedLengths];
};

/// A tile that is nowhere faster is excluded; attention is taken from the length on from which it is faster.
HopperTimes fit_times(const HopperMeasurements& measured);

/// How many times as fast products are at most, of all tiles and measurements; 0 where all are excluded.
double product_gain(const HopperMeasurements& measured, const HopperTimes& times);
/// The same of attention: the geometric mean over those that are taken, at the longest length.
double attention_gain(const HopperMeasurements& measured, const HopperTimes& times);

}  // namespace nd::cuda
