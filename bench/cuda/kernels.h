// Each kernel alone, at the shapes of a guided step of Stable Diffusion 1.5 at 512×512.
#pragma once
#include "report.h"

namespace nd::cuda_bench {

void time_kernels(cuda::CudaBackend& backend, const Options& options, Report& report);

}  // namespace nd::cuda_bench
