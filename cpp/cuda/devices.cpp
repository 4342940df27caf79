#include "cuda/devices.h"

#include <map>
#include <mutex>

namespace nd::cuda {

std::vector<DeviceDescription> list_devices(const Driver& driver) {
  check(driver, driver.init(0), "Could not start the NVIDIA driver");
  int count = 0;
  check(driver, driver.device_count(&count), "Could not count GPUs");
  std::vector<DeviceDescription> list;
  for (int number = 0; number < count; ++number) list.push_back(describe_device(driver, number));
  return list;
}

std::shared_ptr<CudaBackend> open_device(const Driver& driver, int number, const std::vector<char>& image) {
  static std::mutex mutex;
  static std::map<int, std::weak_ptr<CudaBackend>> open;
  const std::lock_guard<std::mutex> lock(mutex);
  std::weak_ptr<CudaBackend>& known = open[number];
  // A lost device never recovers: whoever loads a model again gets a new context.
  if (std::shared_ptr<CudaBackend> backend = known.lock(); backend && !backend->device().lost())
    return backend;
  auto backend = std::make_shared<CudaBackend>(driver, number, image);
  known = backend;
  return backend;
}

MemoryInfo memory_info(CudaBackend& backend) {
  return backend.device().memory_info();
}

}  // namespace nd::cuda
