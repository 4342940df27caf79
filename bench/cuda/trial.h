// The trial of Hopper's kernels, as a report.
#pragma once
#include "report.h"

namespace nd::cuda_bench {

/// Tries Hopper's kernels as loading a model does, reports all times, and has the backend use what was found.
void try_kernels(cuda::CudaBackend& backend, const std::vector<char>& image, Report& report);

}  // namespace nd::cuda_bench
