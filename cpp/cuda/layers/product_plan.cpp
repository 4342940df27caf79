#include "cuda/layers/product_plan.h"

#include <algorithm>
#include <limits>

#include "cuda/context.h"

namespace nd::cuda {
namespace {

constexpr ProductTile kByNumber[kTiles] = {kLargeTile, kNarrowTile, kSmallTile, kSquareTile};
constexpr int kSmall = 2;
// The large tile's eight warps leave too few registers for the coordinates of convolutions: they take the
// square's four, of the same tile.
constexpr Kernel kConvolutions[kTiles] = {Kernel::product_square, Kernel::product_narrow,
                                          Kernel::product_small, Kernel::product_square};
constexpr Kernel kPointwise[kTiles] = {Kernel::product_large_pointwise, Kernel::product_narrow_pointwise,
                                       Kernel::product_small_pointwise, Kernel::product_square_pointwise};

constexpr double kSplitTime = 3;            // another kernel, which adds the splits
constexpr double kPartialTime = 8.0 / 6e6;  // one partial sum written and read
constexpr int kMinStepsPerSplit = 4, kMaxSplits = 16;

int64_t steps_of(const ProductArgs& args) {
  return pieces_of(args.chunks, kProductK / 8);
}

int64_t max_splits(const ProductArgs& args) {
  return args.parities > 1
             ? 1
             : std::max<int64_t>(1, std::min<int64_t>(kMaxSplits, steps_of(args) / kMinStepsPerSplit));
}

struct TileChoice {
  int tile = kSmall;
  int64_t splits = 1;
};

double cost(const ProductArgs& args, const TileChoice& choice, const TileTimes& times, int multiprocessors) {
  const ProductTile& t = kByNumber[choice.tile];
  const int64_t blocks = pieces_of(args.m, t.m) * pieces_of(args.o, t.n) * args.parities * choice.splits;
  return cost_of_blocks(args, times.halves[choice.tile], blocks, pieces_of(steps_of(args), choice.splits),
                        choice.splits, multiprocessors);
}

TileChoice best_tile(const ProductArgs& args, bool pointwise, const TileTimes& times, int multiprocessors) {
  TileChoice best;
  double least = cost(args, best, times, multiprocessors);
  for (int tile = pointwise ? 0 : 1; tile < kTiles; ++tile)
    for (int64_t splits = 1; splits <= max_splits(args); ++splits) {
      const double time = cost(args, {tile, splits}, times, multiprocessors);
      if (time < least) best = {tile, splits}, least = time;
    }
  return best;
}

double hopper_cost(const ProductArgs& args, const ProductPlan& plan, const TileTime& time,
                   int multiprocessors) {
  return cost_of_blocks(args, time, plan.grid.x * plan.grid.y * plan.grid.z, plan.split_steps, plan.splits,
                        multiprocessors);
}

}  // namespace

const ProductTile& product_tile(int tile) {
  return kByNumber[tile];
}

double cost_of_blocks(const ProductArgs& args, const TileTime& time, int64_t blocks, int64_t steps,
                      int64_t splits, int multiprocessors) {
  const int64_t each = pieces_of(blocks, multiprocessors), rounds = each / time.resident,
                rest = each % time.resident;
  const auto round = [&](int64_t resident) {
    return static_cast<double>(steps) * std::max(time.latency, static_cast<double>(resident) * time.step) +
           time.block;
  };
  double result = static_cast<double>(rounds) * round(time.resident) + (rest ? round(rest) : 0);
  if (splits > 1) result += kSplitTime + kPartialTime * static_cast<double>(splits * args.m * args.o);
  return result;
}

ProductPlan plan_tile(const ProductArgs& args, bool pointwise, int tile, int32_t splits) {
  const bool aligned = args.c % 8 == 0 && (pointwise || args.c >= kProductK);
  if (!aligned) tile = kSmall;
  const ProductTile& t = kByNumber[tile];
  ProductPlan plan{};
  plan.kernel = !aligned ? Kernel::product_unaligned : pointwise ? kPointwise[tile] : kConvolutions[tile];
  plan.split_steps = static_cast<int32_t>(pieces_of(steps_of(args), splits));
  // As many as have something to do.
  plan.splits = static_cast<int32_t>(pieces_of(steps_of(args), plan.split_steps));
  plan.grid = {pieces_of(args.m, t.m), pieces_of(args.o, t.n), int64_t{args.parities} * plan.splits};
  plan.tile_rows = t.m, plan.span = args.m;
  return plan;
}

ProductPlan plan_product(const ProductArgs& args, bool pointwise, const Device& device,
                         const TileTimes& measured) {
  const int multiprocessors = device.multiprocessors();
  TileChoice best = best_tile(args, pointwise, kBuiltInTimes, multiprocessors);
  double least = cost(args, best, measured, multiprocessors);
  const TileChoice other = best_tile(args, pointwise, measured, multiprocessors);
  const double time = cost(args, other, measured, multiprocessors);
  if (time < (1 - kMinGain) * least) best = other, least = time;
  ProductPlan plan = plan_tile(args, pointwise, best.tile, static_cast<int32_t>(best.splits));
  plan.microseconds = least;
  if (device.warpgroup_products() == WarpgroupProducts::none || !suits_hopper(args)) return plan;
  if (device.warpgroup_products() == WarpgroupProducts::all)
    plan.microseconds = std::numeric_limits<double>::infinity();
  for (int tile = 0; tile < kHopperTileCount; ++tile) {
    if (!device.hopper_times().has_tile(tile)) continue;
    for (int64_t splits = 1; splits <= max_splits(args); ++splits) {
      ProductPlan other = plan_hopper_tile(args, pointwise, tile, static_cast<int32_t>(splits));
      other.microseconds = hopper_cost(args, other, device.hopper_times().tiles[tile], multiprocessors);
      if (other.microseconds < plan.microseconds) plan = other;
    }
  }
  return plan;
}

}  // namespace nd::cuda
