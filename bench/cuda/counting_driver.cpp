#include "counting_driver.h"

#include <cstdio>
#include <cstring>
#include <utility>

namespace nd::cuda_bench {
namespace {

using namespace nd::cuda;

std::function<void(const Launch&)> watcher;
bool capturing = false;
constexpr size_t kMemory = size_t{80} << 30;

template <class Handle>
Handle some_handle() {
  return reinterpret_cast<Handle>(uintptr_t{1});
}

template <class... Arguments>
Result succeed(Arguments...) {
  return kSuccess;
}

template <class Handle, class... Arguments>
Result make(Handle* handle, Arguments...) {
  *handle = some_handle<Handle>();
  return kSuccess;
}

template <auto Value, class To, class... Arguments>
Result give(To* to, Arguments...) {
  *to = static_cast<To>(Value);
  return kSuccess;
}

Result error_name(Result, const char** name) {
  *name = "none";
  return kSuccess;
}

Result device_name(char* name, int length, DeviceNumber) {
  std::snprintf(name, static_cast<size_t>(length), "H100 (modelled)");
  return kSuccess;
}

Result memory_info(size_t* free, size_t* total) {
  *free = *total = kMemory;
  return kSuccess;
}

/// The host's memory is not pinned: nothing is copied from it.
Result host_allocate(void**, size_t, unsigned) {
  return kOutOfMemory;
}

Result capture_begin(StreamHandle, int) {
  capturing = true;
  return kSuccess;
}

Result capture_end(StreamHandle, GraphHandle* graph) {
  capturing = false;
  return make(graph);
}

Result attribute(int* value, int which, DeviceNumber) {
  *value = which == kMultiprocessors ? 132 : which == kComputeMajor ? 9 : 0;
  return kSuccess;
}

/// Kernels are their numbers, from 1 on.
Result find_kernel(FunctionHandle* function, ModuleHandle, const char* name) {
  for (uintptr_t i = 0; i < static_cast<uintptr_t>(Kernel::count); ++i)
    if (std::strcmp(kKernels[i].name, name) == 0) *function = reinterpret_cast<FunctionHandle>(i + 1);
  return kSuccess;
}

Result allocate(DevicePointer* pointer, size_t bytes) {
  static DevicePointer next = 1 << 20;
  *pointer = next;
  next += (bytes + 511) / 512 * 512;
  return kSuccess;
}

Result launch(FunctionHandle function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned, unsigned,
              unsigned, unsigned, StreamHandle, void** parameters, void**) {
  const Kernel kernel = static_cast<Kernel>(reinterpret_cast<uintptr_t>(function) - 1);
  if (watcher) watcher({kernel, grid_x, grid_y, grid_z, parameters[0], capturing});
  return kSuccess;
}

Result launch_configured(const LaunchConfig* config, FunctionHandle function, void** parameters,
                         void** extra) {
  const auto& [x, y, z] = config->grid;
  return launch(function, x, y, z, 0, 0, 0, 0, nullptr, parameters, extra);
}

Driver make_driver() {
  static_assert(sizeof(Driver) == 46 * sizeof(Driver::init), "a new function of the driver is set here, too");
  Driver driver{};
  driver.init = succeed;
  driver.driver_version = give<13000>;
  driver.error_name = error_name;
  driver.device_count = give<1>;
  driver.device_get = give<0>;
  driver.device_name = device_name;
  driver.device_memory = give<kMemory>;
  driver.device_attribute = attribute;
  driver.context_retain = make;
  driver.context_release = succeed;
  driver.context_create = make;
  driver.context_destroy = succeed;
  driver.context_push = succeed;
  driver.context_pop = make;
  driver.module_load = make;
  driver.module_unload = succeed;
  driver.module_function = find_kernel;
  driver.function_get = give<90>;
  driver.function_set = succeed;
  driver.resident_blocks = give<1>;
  driver.memory_allocate = allocate;
  driver.memory_release = succeed;
  driver.memory_info = memory_info;
  driver.host_allocate = host_allocate;
  driver.host_release = succeed;
  driver.copy_to_device = succeed;
  driver.copy_to_host = succeed;
  driver.copy_on_device = succeed;
  driver.launch = launch;
  driver.launch_configured = launch_configured;
  driver.tensor_map = succeed;
  driver.stream_create = make;
  driver.stream_destroy = succeed;
  driver.stream_synchronize = succeed;
  driver.capture_begin = capture_begin;
  driver.capture_end = capture_end;
  driver.graph_instantiate = make;
  driver.graph_destroy = succeed;
  driver.graph_launch = succeed;
  driver.executable_destroy = succeed;
  driver.event_create = make;
  driver.event_destroy = succeed;
  driver.event_record = succeed;
  driver.event_synchronize = succeed;
  driver.event_query = succeed;
  driver.event_elapsed = give<0>;
  return driver;
}

}  // namespace

const Driver& counting_driver() {
  static const Driver driver = make_driver();
  return driver;
}

void watch_launches(std::function<void(const Launch&)> watch) {
  watcher = std::move(watch);
}

}  // namespace nd::cuda_bench
