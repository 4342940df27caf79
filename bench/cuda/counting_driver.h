// A driver without a GPU: everything succeeds, nothing is computed or kept, and each launch is shown to a
// function.
#pragma once
#include <functional>

#include "cuda/driver.h"
#include "cuda/kernels.h"

namespace nd::cuda_bench {

struct Launch {
  cuda::Kernel kernel;
  unsigned grid_x, grid_y, grid_z;
  const void* arguments;  // the kernel's struct, valid during the call
  bool captured;          // for a graph
};

/// It calls itself an H100. One thread at a time.
const cuda::Driver& counting_driver();
void watch_launches(std::function<void(const Launch&)> watch);

}  // namespace nd::cuda_bench
