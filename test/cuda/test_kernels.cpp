#include "test_kernels.h"

#include "cuda/layers/tensor_map.h"
#include "driver.h"

namespace nd::cuda_test {

using namespace nd::cuda;

bool launch_test(const TestLaunch& what, const void* arguments) {
  Device& device = backend().device();
  const Driver& driver = device.driver();
  const Device::Current current(device);
  static ModuleHandle module = [&] {
    const std::vector<char> image = test_image();
    ModuleHandle loaded;
    check(driver, driver.module_load(&loaded, image.data()), "Could not load the tests' kernels");
    return loaded;
  }();
  FunctionHandle function;
  check(driver, driver.module_function(&function, module, what.kernel), what.kernel);
  if (what.shared_bytes > 48 << 10)
    check(driver, driver.function_set(function, kMaxDynamicShared, what.shared_bytes), what.kernel);
  void* parameters[] = {const_cast<void*>(arguments)};
  const auto size = [](int64_t n) { return static_cast<unsigned>(n); };
  check(driver,
        driver.launch(function, size(what.grid.x), size(what.grid.y), size(what.grid.z), size(what.threads),
                      1, 1, size(what.shared_bytes), nullptr, parameters, nullptr),
        what.kernel);
  const Result result = driver.stream_synchronize(nullptr);
  if (result != kSuccess) emu::recover();
  return result == kSuccess;
}

TensorMapBytes tensor_map(const Array& array, int64_t rows, int64_t k) {
  const Device& device = backend().device();
  const Device::Current current(device);
  return cuda::tensor_map<2>(device.driver(), array.as<half>(), {k, rows}, {k}, {kWgmmaTile, kWgmmaTile});
}

}  // namespace nd::cuda_test
