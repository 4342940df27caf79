// How fast the kernels of products are that run on all GPUs, for the choice between their tiles.
#pragma once
#include "cuda/kernels/arguments.h"

namespace nd::cuda {

/// The time of a product's blocks, in microseconds on an H200; only ratios matter.
struct TileTime {
  int resident;    // blocks that a multiprocessor runs side by side
  double latency;  // of a step where a block is alone
  double step;     // that each block adds where there are many
  double block;    // filling the pipeline, writing the tile
};

constexpr int kTiles = 4;

struct TileTimes {
  /// Of steps of kProductK, measured on an H200.
  TileTime halves[kTiles] = {
      {2, 0.50, 0.435, 8}, {3, 0.40, 0.215, 8}, {4, 0.30, 0.12, 5}, {2, 0.50, 0.385, 10}};
  /// Of steps of kInt8K, which are twice as long. They are bound by issuing instructions, half of which scale
  /// the sums: ptxas gives a warp 294, 507 and 482 of them a step. These are three quarters of the rate at
  /// which a multiprocessor could issue them, until they are measured.
  TileTime int8[kInt8TileCount] = {{3, 0.40, 0.225, 5}, {2, 0.55, 0.385, 8}, {1, 0.73, 0.73, 10}};
};

/// What holds without a trial (trial/tile_trial.h).
inline constexpr TileTimes kBuiltInTimes{};

}  // namespace nd::cuda
