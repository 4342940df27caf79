// Whole models of Stable Diffusion 1.5's size with random weights.
#pragma once
#include "report.h"

namespace nd::cuda_bench {

/// Steps with guidance at 512×512 (or smaller if requested), and the decoding of one image. With `check`,
/// also reports the device's error against a step on the CPU in float32.
void time_unet(cuda::CudaBackend& backend, const Options& options, bool check, Report& report);
void time_vae(cuda::CudaBackend& backend, const Options& options, bool check, Report& report);

}  // namespace nd::cuda_bench
