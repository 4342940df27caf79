#include "cuda/devices.h"

#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "cuda/trial/hopper_trial.h"

namespace nd::cuda {
namespace {

constexpr int kHopper = 90;  // wgmma is an instruction of 9.0 alone

/// What the process knows about a GPU.
struct Known {
  std::weak_ptr<CudaBackend> open;
  std::optional<HopperVerdict> hopper;
  std::string note;  // see DeviceDescription::hopper
};

std::mutex mutex;

std::map<int, Known>& known_devices() {
  static std::map<int, Known> devices;
  return devices;
}

void choose_hopper(Known& known, CudaBackend& backend, const std::vector<char>& image,
                   const CancelToken* cancel) {
  Device& device = backend.device();
  if (device.capability() != kHopper || !device.has_warpgroup_products()) return;
  if (const std::optional<WarpgroupProducts> forced = forced_warpgroup_products()) {
    // Device's constructor has applied it.
    known.note = *forced == WarpgroupProducts::none ? "off: " : "on: ";
    known.note += "NODE_DIFFUSION_CUDA_WGMMA says so";
    return;
  }
  if (!known.hopper) known.hopper = try_hopper(device.driver(), device.description().number, image, cancel);
  known.note = known.hopper->note;
  // CUDA promises nothing to other contexts of a process in which a kernel has failed.
  if (!known.hopper->on && device.lost())
    throw Error(ErrorCode::device_lost,
                "The trial of Hopper's kernels failed, and this process cannot use the GPU any more (" +
                    known.note + "). Start it again with NODE_DIFFUSION_CUDA_WGMMA=0.");
  apply(*known.hopper, device);
}

}  // namespace

std::vector<DeviceDescription> list_devices(const Driver& driver) {
  check(driver, driver.init(0), "Could not start the NVIDIA driver");
  int count = 0;
  check(driver, driver.device_count(&count), "Could not count GPUs");
  std::vector<DeviceDescription> list;
  const std::lock_guard<std::mutex> lock(mutex);
  for (int number = 0; number < count; ++number) {
    list.push_back(describe_device(driver, number));
    const auto known = known_devices().find(number);
    if (known != known_devices().end()) list.back().hopper = known->second.note;
  }
  return list;
}

std::shared_ptr<CudaBackend> open_device(const Driver& driver, int number, const std::vector<char>& image,
                                         const CancelToken* cancel) {
  const std::lock_guard<std::mutex> lock(mutex);
  Known& known = known_devices()[number];
  // A lost device never recovers: whoever loads a model again gets a new context.
  if (std::shared_ptr<CudaBackend> backend = known.open.lock(); backend && !backend->device().lost())
    return backend;
  auto backend = std::make_shared<CudaBackend>(driver, number, image);
  choose_hopper(known, *backend, image, cancel);
  known.open = backend;
  return backend;
}

MemoryInfo memory_info(CudaBackend& backend) {
  return backend.device().memory_info();
}

}  // namespace nd::cuda
