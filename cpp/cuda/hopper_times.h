// How fast Hopper's kernels are, for the choice between them and those that run everywhere. The trial of
// trial/hopper_trial.h measures it; until then, it is a guess.
#pragma once
#include <cstdint>
#include <limits>

#include "cuda/kernels/arguments.h"
#include "cuda/tile_times.h"

namespace nd::cuda {

constexpr int kHopperTileCount = sizeof kHopperTiles / sizeof kHopperTiles[0];
constexpr int kHopperAttentionCount = sizeof kHopperAttentionShapes / sizeof kHopperAttentionShapes[0];

struct HopperTimes {
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

  /// Of steps of kHopperK, which are twice as long as those of the other kernels: three quarters of the peak.
  TileTime tiles[kHopperTileCount] = {{kHopperTiles[0].blocks, 0.50, 0.37, 6},
                                      {kHopperTiles[1].blocks, 0.75, 0.75, 9},
                                      {kHopperTiles[2].blocks, 0.50, 0.50, 7}};
  /// Tokens from which on each attention kernel is taken. With fewer, blocks of 128 queries leave
  /// multiprocessors without work.
  int64_t attention_tokens[kHopperAttentionCount] = {512, 512, 512, 512, 512};

  void exclude_tile(int tile) { tiles[tile].step = std::numeric_limits<double>::infinity(); }
  bool has_tile(int tile) const { return tiles[tile].step < std::numeric_limits<double>::infinity(); }
};

}  // namespace nd::cuda
