// Times and memory of whole pictures.
#pragma once
#include "report.h"

namespace nd::cuda_bench {

/// Whole guided pictures of 20 steps (fewer on the emulator): the times of their parts, and the device's
/// memory.
void time_pictures(cuda::CudaBackend& backend, const Options& options, Report& report);

}  // namespace nd::cuda_bench
