// Which products are computed with int8, and by which kernel.
#include <algorithm>
#include <limits>

#include "cuda/context.h"
#include "cuda/layers/product_plan.h"

namespace nd::cuda {
namespace {

constexpr int kFirst = static_cast<int>(Kernel::product_int8_small);  // of the kernels, in the tiles' order
constexpr int kMinCapability = 80;  // cp.async, and m16n8k32 in one instruction
constexpr int kMinStepsPerSplit = 2, kMaxSplits = 16;

// Of the kernels that come before a product: bytes a microsecond of tensors, which stay in the L2 cache, and
// of weights, which do not; the least time; and from one kernel to the next.
constexpr double kTensorBytes = 1e6, kWeightBytes = 3.35e6, kMinTime = 2.5, kGap = 1;

int64_t taps_of(const ProductArgs& args) {
  return args.chunks / (args.c / 8);
}

int64_t steps_of(const ProductArgs& args) {
  return taps_of(args) * (args.c / kInt8K);
}

double quantizing_time(const ProductArgs& args) {
  const double elements =
      static_cast<double>(args.m) / args.grid_pixels * args.h * args.w * args.c;  // of all images
  return std::max(kMinTime, elements * (3 + 4.0 / kInt8K) / kTensorBytes) + kGap;
}

double decoding_time(const DecodeArgs& decode) {
  const double elements = 8.0 * static_cast<double>(decode.total);
  return std::max(kMinTime, elements * (3 + 2.0 / kInt8Block) / kWeightBytes) + kGap;
}

struct Int8Choice {
  int tile = 0;
  int32_t splits = 1;
};

double cost(const ProductArgs& args, const Int8Choice& choice, const TileTimes& times, int multiprocessors) {
  const ProductPlan plan = plan_int8_tile(args, choice.tile, choice.splits);
  const double weights = static_cast<double>(args.o) * static_cast<double>(steps_of(args) * (kInt8K + 4));
  return std::max(cost_of_blocks(args, times.int8[choice.tile], plan.grid.x * plan.grid.y * plan.grid.z,
                                 plan.split_steps, plan.splits, multiprocessors),
                  weights / kWeightBytes);
}

Int8Choice best_tile(const ProductArgs& args, const TileTimes& times, int multiprocessors) {
  const auto max_splits = static_cast<int32_t>(
      std::max<int64_t>(1, std::min<int64_t>(kMaxSplits, steps_of(args) / kMinStepsPerSplit)));
  Int8Choice best;
  double least = std::numeric_limits<double>::infinity();
  for (int tile = 0; tile < kInt8TileCount; ++tile)
    for (int32_t splits = 1; splits <= max_splits; ++splits) {
      const double time = cost(args, {tile, splits}, times, multiprocessors);
      if (time < least) best = {tile, splits}, least = time;
    }
  return best;
}

}  // namespace

bool suits_int8(const ProductArgs& args) {
  return args.c % kInt8K == 0 && args.parities == 1 && args.chunks == args.weights_chunks &&
         taps_of(args) <= kInt8Taps;
}

ProductPlan plan_int8_tile(const ProductArgs& args, int tile, int32_t splits) {
  const ProductTile& t = kInt8Tiles[tile];
  ProductPlan plan{};
  plan.kernel = static_cast<Kernel>(kFirst + tile);
  plan.split_steps = static_cast<int32_t>(pieces_of(steps_of(args), splits));
  plan.splits = static_cast<int32_t>(pieces_of(steps_of(args), plan.split_steps));
  plan.grid = {pieces_of(args.m, t.m), pieces_of(args.o, t.n), plan.splits};
  plan.tile_rows = t.m, plan.span = args.m;
  return plan;
}

ProductPlan plan_int8(const ProductArgs& args, const Device& device, const TileTimes& measured) {
  const int multiprocessors = device.multiprocessors();
  Int8Choice best = best_tile(args, kBuiltInTimes, multiprocessors);
  double least = cost(args, best, measured, multiprocessors);
  const Int8Choice other = best_tile(args, measured, multiprocessors);
  const double time = cost(args, other, measured, multiprocessors);
  if (time < (1 - kMinGain) * least) best = other, least = time;
  ProductPlan plan = plan_int8_tile(args, best.tile, best.splits);
  plan.microseconds = least;
  return plan;
}

bool prefers_int8(const ProductArgs& args, bool pointwise, bool quantized, const DecodeArgs& decode,
                  const Device& device) {
  if (!suits_int8(args) || device.capability() < kMinCapability) return false;
  if (device.int8_products() == Int8Products::none) return false;
  if (device.int8_products() == Int8Products::all) return true;
  return plan_int8(args, device, kBuiltInTimes).microseconds + (quantized ? 0 : quantizing_time(args)) <
         plan_product(args, pointwise, device, kBuiltInTimes).microseconds + decoding_time(decode);
}

}  // namespace nd::cuda
