#include "cuda/layers/product_plan.h"

#include <algorithm>

namespace nd::cuda {
namespace {

constexpr int kTiles = 3;
constexpr ProductTile kByNumber[kTiles] = {kLargeTile, kNarrowTile, kSmallTile};
constexpr Kernel kConvolutions[kTiles] = {Kernel::product_large, Kernel::product_narrow,
                                          Kernel::product_small};
constexpr Kernel kPointwise[kTiles] = {Kernel::product_large_pointwise, Kernel::product_narrow_pointwise,
                                       Kernel::product_small_pointwise};

// Time is counted in steps of the large tile. Smaller tiles load more for each multiplication.
constexpr double kStepCost[kTiles] = {1.0, 0.53, 0.31};
constexpr double kBlockCost = 12;      // filling the pipeline, writing the tile
constexpr double kSplitCost = 20;      // another kernel that adds the splits
constexpr double kPartialCost = 1e-5;  // one partial sum written and read
constexpr int kLeastSteps = 8, kMostSplits = 16;

int64_t pieces(int64_t total, int64_t piece) {
  return (total + piece - 1) / piece;
}

int64_t steps_of(const ProductArgs& args) {
  return pieces(args.chunks, kProductK / 8);
}

double cost(const ProductArgs& args, int tile, int64_t splits, int multiprocessors) {
  const ProductTile& t = kByNumber[tile];
  const int64_t blocks = pieces(args.m, t.m) * pieces(args.o, t.n) * args.parities * splits;
  const double steps = static_cast<double>(pieces(steps_of(args), splits));
  double result =
      static_cast<double>(pieces(blocks, multiprocessors)) * (steps + kBlockCost) * kStepCost[tile];
  if (splits > 1)
    result +=
        kSplitCost + kPartialCost * static_cast<double>(splits * args.m * args.o) / multiprocessors * 132;
  return result;
}

}  // namespace

ProductPlan plan_tile(const ProductArgs& args, bool pointwise, int tile, int32_t splits) {
  const bool aligned = args.c % 8 == 0;
  if (!aligned) tile = kTiles - 1;
  const ProductTile& t = kByNumber[tile];
  ProductPlan plan{};
  plan.kernel = !aligned ? Kernel::product_unaligned : pointwise ? kPointwise[tile] : kConvolutions[tile];
  plan.split_steps = static_cast<int32_t>(pieces(steps_of(args), splits));
  // As many as have something to do.
  plan.splits = static_cast<int32_t>(pieces(steps_of(args), plan.split_steps));
  plan.grid = {pieces(args.m, t.m), pieces(args.o, t.n), int64_t{args.parities} * plan.splits};
  return plan;
}

ProductPlan plan_product(const ProductArgs& args, bool pointwise, int multiprocessors) {
  const int64_t most = args.parities > 1 ? 1 : std::min<int64_t>(kMostSplits, steps_of(args) / kLeastSteps);
  int best = 0;
  int64_t best_splits = 1;
  double best_cost = cost(args, 0, 1, multiprocessors);
  for (int tile = 0; tile < kTiles; ++tile)
    for (int64_t splits = 1; splits <= std::max<int64_t>(1, most); ++splits) {
      const double time = cost(args, tile, splits, multiprocessors);
      if (time < best_cost) best = tile, best_splits = splits, best_cost = time;
    }
  return plan_tile(args, pointwise, best, static_cast<int32_t>(best_splits));
}

}  // namespace nd::cuda
