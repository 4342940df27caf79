// Which kernel computes a product, and in how many splits of its sum.
#pragma once
#include "cuda/device.h"

namespace nd::cuda {

struct ProductPlan {
  Kernel kernel;
  Grid grid;
  int32_t splits, split_steps;
};

/// By a model of the time: a multiprocessor computes its blocks' tiles one after the other, each with a fixed
/// cost of filling the pipeline and writing the tile.
ProductPlan plan_product(const ProductArgs& args, bool pointwise, int multiprocessors);

/// That of one tile: 0 is the largest. For tests and measurements.
ProductPlan plan_tile(const ProductArgs& args, bool pointwise, int tile, int32_t splits);

}  // namespace nd::cuda
