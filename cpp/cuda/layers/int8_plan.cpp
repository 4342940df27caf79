// Which products are computed with int8, and by which kernel.
#include <algorithm>

#include "cuda/context.h"
#include "cuda/layers/product_plan.h"

namespace nd::cuda {
namespace {

constexpr int kFirst = static_cast<int>(Kernel::product_int8_small);  // of the kernels, in the tiles' order
/// Of steps of kInt8K, which are twice as long as those of halves. They are bound by issuing instructions,
/// half of which scale the sums: ptxas gives a warp 294, 507 and 482 of them a step. These are three quarters
/// of the rate at which a multiprocessor could issue them, until they are measured.
constexpr TileTime kTimes[kInt8TileCount] = {{3, 0.40, 0.225, 5}, {2, 0.55, 0.385, 8}, {1, 0.73, 0.73, 10}};
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

}  // namespace

const TileTime& int8_tile_time(int tile) {
  return kTimes[tile];
}

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

ProductPlan plan_int8(const ProductArgs& args, const Device& device) {
  const int64_t max_splits =
      std::max<int64_t>(1, std::min<int64_t>(kMaxSplits, steps_of(args) / kMinStepsPerSplit));
  const double weights = static_cast<double>(args.o) * static_cast<double>(steps_of(args) * (kInt8K + 4));
  ProductPlan best{};
  for (int tile = 0; tile < kInt8TileCount; ++tile)
    for (int64_t splits = 1; splits <= max_splits; ++splits) {
      ProductPlan plan = plan_int8_tile(args, tile, static_cast<int32_t>(splits));
      const int64_t blocks = plan.grid.x * plan.grid.y * plan.grid.z;
      plan.microseconds = std::max(
          cost_of_blocks(args, kTimes[tile], blocks, plan.split_steps, plan.splits, device.multiprocessors()),
          weights / kWeightBytes);
      if (!best.microseconds || plan.microseconds < best.microseconds) best = plan;
    }
  return best;
}

bool prefers_int8(const ProductArgs& args, bool pointwise, bool quantized, const DecodeArgs& decode,
                  const Device& device) {
  if (!suits_int8(args) || device.capability() < kMinCapability) return false;
  if (device.int8_products() == Int8Products::none) return false;
  if (device.int8_products() == Int8Products::all) return true;
  return plan_int8(args, device).microseconds + (quantized ? 0 : quantizing_time(args)) <
         plan_product(args, pointwise, device).microseconds + decoding_time(decode);
}

}  // namespace nd::cuda
