// In place of the CUDA backend on platforms that NVIDIA has no driver for (ND_CUDA_BACKEND in
// cmake/cuda.cmake).
#include "cuda/devices.h"

namespace nd::cuda {

const Driver& system_driver() {
  throw Error(ErrorCode::device_unavailable,
              "NVIDIA has no driver for this platform, and so this build has no CUDA. Use device 'cpu'.");
}

// Never called, as there is no driver to pass.
std::vector<DeviceDescription> list_devices(const Driver&) {
  return {};
}

std::shared_ptr<CudaBackend> open_device(const Driver&, int, const std::vector<char>&, const CancelToken*) {
  return nullptr;
}

MemoryInfo memory_info(CudaBackend&) {
  return {};
}

}  // namespace nd::cuda
