// Which kernel computes a product, and in how many splits of its sum.
#pragma once
#include "cuda/device.h"

namespace nd::cuda {

/// How Hopper's kernels cut a product's grid, see HopperProductArgs.
struct HopperBoxes {
  bool flat;  // all pixels are one row
  int32_t images, grid_h, grid_w, box_h, box_w, boxes_h, boxes_w, boxes_n;
};

struct ProductPlan {
  Kernel kernel{};
  Grid grid;
  int32_t splits = 1, split_steps = 0;
  int32_t tile_rows = 0, span = 0;  // see ProductArgs; not of Hopper's kernels
  int32_t moment_pieces = 0;        // of each image; 0: none are taken
  HopperBoxes boxes{};              // of Hopper's kernels
  double microseconds = 0;          // as the model of the time has it
};

/// Measurements vary, and another choice rounds otherwise: they count where they promise to save this part of
/// the time.
constexpr double kMinGain = 0.05;

double cost_of_blocks(const ProductArgs& args, const TileTime& time, int64_t blocks, int64_t steps,
                      int64_t splits, int multiprocessors);

/// The one that takes the least time by a model of it. Of the kernels for all GPUs that is what was measured
/// on an H200, or what was measured on this one where the choice by that takes kMinGain less; of Hopper's
/// kernels device.hopper_times().
ProductPlan plan_product(const ProductArgs& args, bool pointwise, const Device& device,
                         const TileTimes& measured);
inline ProductPlan plan_product(const ProductArgs& args, bool pointwise, const Device& device) {
  return plan_product(args, pointwise, device, device.tile_times());
}

/// Those of kTiles tiles.
const ProductTile& product_tile(int tile);
/// That of one of them. For tests and measurements.
ProductPlan plan_tile(const ProductArgs& args, bool pointwise, int tile, int32_t splits);

/// That of one of kHopperTiles, if suits_hopper().
ProductPlan plan_hopper_tile(const ProductArgs& args, bool pointwise, int tile, int32_t splits);
/// Whether kernels of pointwise products can read these channels of one tensor and then those of a second.
constexpr bool suits_second(int64_t first_c, int64_t second_c) {
  return first_c % kProductK == 0 && second_c % 8 == 0;
}

/// Whether Hopper's kernels can compute it: a stride of 1, whole chunks of channels, whole steps where a
/// second tensor begins, all of the weights' rows.
bool suits_hopper(const ProductArgs& args);

/// That of one of kInt8Tiles, if suits_int8().
ProductPlan plan_int8_tile(const ProductArgs& args, int tile, int32_t splits);
/// The best of them, as plan_product() chooses. Its time is without that of making int8 of x.
ProductPlan plan_int8(const ProductArgs& args, const Device& device, const TileTimes& measured);
inline ProductPlan plan_int8(const ProductArgs& args, const Device& device) {
  return plan_int8(args, device, device.tile_times());
}
/// Whether rows of the weights and of x are whole steps, and kernels small.
bool suits_int8(const ProductArgs& args);
/// Whether int8 is to be preferred for weights that `decode` would make halves of: on GPUs that have its
/// instructions, where it takes less time, or as Device::int8_products() says. quantized: whatever writes x
/// can write it as int8, so that this takes no time of its own. A trial of the tiles changes nothing about
/// it: int8 or not makes a larger difference than rounding.
bool prefers_int8(const ProductArgs& args, bool pointwise, bool quantized, const DecodeArgs& decode,
                  const Device& device);

/// What Hopper's kernel takes; args as the plan wants it.
HopperProductArgs hopper_arguments(const Driver& driver, const ProductArgs& args, const ProductPlan& plan);

}  // namespace nd::cuda
