#include "test_kernels.h"

#include "driver.h"

namespace nd::cuda_test {

using namespace nd::cuda;

bool launch_test(const TestLaunch& what, const void* arguments) {
  Device& device = backend().device();
  const Driver& driver = device.driver();
  const Device::Current current(device);
  static const ModuleHandle module = [&] {
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
  constexpr int kHalves = 6, kSwizzle128 = 3, kPromotion128 = 2;
  const uint64_t sizes[] = {static_cast<uint64_t>(k), static_cast<uint64_t>(rows)},
                 strides[] = {static_cast<uint64_t>(k) * 2};
  const uint32_t box[] = {kWgmmaTile, kWgmmaTile}, steps[] = {1, 1};
  const Device& device = backend().device();
  const Driver& driver = device.driver();
  const Device::Current current(device);
  TensorMapBytes map{};
  check(driver,
        driver.tensor_map(&map, kHalves, 2, array.as<void>(), sizes, strides, box, steps, 0, kSwizzle128,
                          kPromotion128, 0),
        "Could not encode a tensor map");
  return map;
}

}  // namespace nd::cuda_test
