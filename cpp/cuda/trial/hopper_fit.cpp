#include "cuda/trial/hopper_fit.h"

#include <algorithm>
#include <cmath>

namespace nd::cuda {

namespace {

/// Of the long sums, the short ones and those of a block alone, for the same number of columns.
double best_gain(const HopperMeasurements& measured, int tile) {
  const TileMeasurement &everywhere = measured.everywhere, &hopper = measured.tiles[tile];
  const double columns = static_cast<double>(trial_columns(tile)) / trial_columns(0);
  double best = 0;
  for (const TimePair& pair : {TimePair{columns * everywhere.long_full, hopper.long_full},
                               TimePair{columns * everywhere.short_full, hopper.short_full},
                               TimePair{everywhere.long_alone, hopper.long_alone}})
    if (pair.faster()) best = std::max(best, pair.everywhere / pair.hopper);
  return best;
}

}  // namespace

HopperTimes fit_times(const HopperMeasurements& measured) {
  HopperTimes times;
  const TileMeasurement& other = measured.everywhere;
  const double card =
      std::sqrt(other.long_full / measured.modelled_long * (other.short_full / measured.modelled_short));
  for (int i = 0; i < kHopperTileCount; ++i) {
    const TileMeasurement& tile = measured.tiles[i];
    if (best_gain(measured, i) > 0 && card > 0 && tile.long_full > 0)
      times.tiles[i] = fit_tile(times.tiles[i], tile, card);
    else
      times.exclude_tile(i);
  }
  for (int i = 0; i < kHopperAttentionCount; ++i) {
    int64_t& tokens = times.attention_tokens[i] = HopperTimes::kNever;
    for (int length = kTriedLengths - 1; length >= 0 && measured.attention[i][length].faster(); --length)
      tokens = kTriedTokens[length];
  }
  return times;
}

double product_gain(const HopperMeasurements& measured, const HopperTimes& times) {
  double gain = 0;
  for (int i = 0; i < kHopperTileCount; ++i)
    if (times.has_tile(i)) gain = std::max(gain, best_gain(measured, i));
  return gain;
}

double attention_gain(const HopperMeasurements& measured, const HopperTimes& times) {
  double sum = 0;
  int count = 0;
  for (int i = 0; i < kHopperAttentionCount; ++i) {
    if (times.attention_tokens[i] == HopperTimes::kNever) continue;
    const TimePair& longest = measured.attention[i][kTriedLengths - 1];
    sum += std::log(longest.everywhere / longest.hopper);
    ++count;
  }
  return count ? std::exp(sum / count) : 0;
}

}  // namespace nd::cuda
