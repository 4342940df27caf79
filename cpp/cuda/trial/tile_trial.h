// The trial of products' tiles on the user's own GPU: how fast each of them is there.
#pragma once
#include <string>

#include "core/cancel.h"
#include "cuda/trial/tile_fit.h"

namespace nd::cuda {

class Device;

struct TileVerdict {
  TileTimes times;   // kBuiltInTimes where nothing was measured
  std::string note;  // one line for people
  TileMeasurement halves[kTiles], int8[kInt8TileCount];
  double milliseconds = 0;  // that the trial took
};

/// In the device's own context, whose kernels models use anyway. It takes some 20 ms and as many MB for as
/// long; where memory is short or the GPU is busy, nothing is measured. What NODE_DIFFUSION_CUDA_TILES=0
/// forbids is not measured either. Errors Cancelled, device_lost.
TileVerdict try_tiles(Device& device, const CancelToken* cancel = nullptr);

/// Times of the tiles from measurements, in the units of the model; those of int8 stay where they were not
/// measured.
TileTimes fit_tiles(const TileTimes& guess, const TileVerdict& measured);

}  // namespace nd::cuda
