// Which kernel computes a product, and in how many splits of its sum.
#pragma once
#include "cuda/device.h"

namespace nd::cuda {

struct ProductPlan {
  Kernel kernel{};
  Grid grid;
  int32_t splits = 1, split_steps = 0;
};

/// By a model of the time that was fitted to measurements.
ProductPlan plan_product(const ProductArgs& args, bool pointwise, int multiprocessors);

/// That of one of kTiles tiles. For tests and measurements.
constexpr int kTiles = 4;
ProductPlan plan_tile(const ProductArgs& args, bool pointwise, int tile, int32_t splits);

}  // namespace nd::cuda
