// The GPUs of this machine, and the backends that are open on them: one for each GPU, shared by all models.
#pragma once
#include <memory>
#include <vector>

#include "cuda/backend.h"

namespace nd::cuda {

/// All GPUs that the driver shows to this process, with what open_device() has found out about them; opens
/// none. Error device_unavailable: there are none.
std::vector<DeviceDescription> list_devices(const Driver& driver);

/// The backend of a GPU. The first call creates it with the kernels in `image` (see Device). It is shared by
/// all callers and lives as long as one of them holds it. Where the image has Hopper's kernels, the first
/// call in the process tries them (see try_hopper()), unless the environment forces a choice. A trial that
/// failed by what may pass is repeated by the next calls, up to three trials in all; models that are open
/// then keep their backend. Thread-safe; different GPUs are opened side by side. Error device_unavailable.
/// Throws Cancelled.
std::shared_ptr<CudaBackend> open_device(const Driver& driver, int number, const std::vector<char>& image,
                                         const CancelToken* cancel = nullptr);

/// Error device_unavailable, device_lost.
MemoryInfo memory_info(CudaBackend& backend);

}  // namespace nd::cuda
