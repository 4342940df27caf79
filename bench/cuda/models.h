// Whole models of Stable Diffusion 1.5's size with random weights.
#pragma once
#include "report.h"

namespace nd::cuda_bench {

/// Guided steps at 512×512 (shrunk where asked for), and decoding of one image. With `check`, a step on the
/// CPU in float32 says how far the device is off.
void time_unet(cuda::CudaBackend& backend, const Options& options, bool check, Report& report);
void time_vae(cuda::CudaBackend& backend, const Options& options, bool check, Report& report);

}  // namespace nd::cuda_bench
