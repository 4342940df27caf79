// Single steps and the autoencoder, with random weights of the published models' size.
#pragma once
#include "report.h"

namespace nd::cuda_bench {

/// Steps with guidance, latents copied in each, and the decoding of one image of 512×512 (or smaller if
/// requested). With `check`, also reports the device's error against the CPU in float32, up to this size.
void time_unet(cuda::CudaBackend& backend, const Options& options, bool check, Report& report);
void time_vae(cuda::CudaBackend& backend, const Options& options, bool check, Report& report);

}  // namespace nd::cuda_bench
