#include "driver.h"

#include <stdio.h>
#include <string.h>

#include <map>
#include <string>

#include "cuda_emulator.h"
#include "driver_memory.h"
#include "earlier.h"
#include "driver_streams.h"

namespace emu {

DriverOptions driver_options;
DriverCounts driver_counts{};

namespace {

using namespace nd::cuda;

Result init(unsigned) {
  return kSuccess;
}
Result driver_version(int* version) {
  *version = driver_options.version;
  return kSuccess;
}
Result error_name(Result error, const char** name) {
  static const std::map<Result, const char*> names = {
      {kOutOfMemory, "CUDA_ERROR_OUT_OF_MEMORY"},  {kNoDevice, "CUDA_ERROR_NO_DEVICE"},
      {201, "CUDA_ERROR_INVALID_CONTEXT"},         {kNotFound, "CUDA_ERROR_NOT_FOUND"},
      {kLaunchFailed, "CUDA_ERROR_LAUNCH_FAILED"}, {801, "CUDA_ERROR_NOT_SUPPORTED"}};
  const auto found = names.find(error);
  if (found == names.end()) return 1;
  *name = found->second;
  return kSuccess;
}
Result device_count(int* count) {
  *count = driver_options.devices;
  return driver_options.devices ? kSuccess : kNoDevice;
}
Result device_get(DeviceNumber* device, int ordinal) {
  if (ordinal < 0 || ordinal >= driver_options.devices) return 101;  // CUDA_ERROR_INVALID_DEVICE
  *device = ordinal;
  return kSuccess;
}
Result device_name(char* name, int length, DeviceNumber) {
  snprintf(name, static_cast<size_t>(length), "Emulated GPU");
  return kSuccess;
}
Result device_memory(size_t* bytes, DeviceNumber) {
  *bytes = driver_options.memory;
  return kSuccess;
}
Result device_attribute(int* value, int attribute, DeviceNumber) {
  *value = attribute == kMultiprocessors ? driver_options.multiprocessors
           : attribute == kComputeMajor  ? driver_options.capability / 10
           : attribute == kComputeMinor  ? driver_options.capability % 10
                                         : 0;
  return kSuccess;
}
Result module_load(ModuleHandle* module, const void*) {
  *module = reinterpret_cast<ModuleHandle>(1);
  return usable();
}
Result module_unload(ModuleHandle) {
  return usable();
}
Result module_function(FunctionHandle* function, ModuleHandle, const char* name) {
  const char* replaced = driver_options.replaced;
  if (replaced && strcmp(replaced, name) == 0) name = driver_options.replacement;
  *function = reinterpret_cast<FunctionHandle>(const_cast<Kernel*>(find_kernel(name)));
  return *function ? usable() : kNotFound;
}
Result function_get(int* value, int, FunctionHandle) {
  *value = driver_options.capability;
  return usable();
}
Result function_set(FunctionHandle, int, int) {
  return usable();
}
Result resident_blocks(int* blocks, FunctionHandle function, int threads, size_t shared_bytes) {
  // As shared memory and threads allow on 8.0; registers are not known.
  constexpr size_t kThreads = 2048, kShared = 164 << 10, kSharedOfDriver = 1 << 10;
  *blocks = driver_options.resident_blocks
                ? driver_options.resident_blocks(reinterpret_cast<const Kernel*>(function)->name)
                : static_cast<int>(std::min(kThreads / static_cast<size_t>(threads),
                                            kShared / (shared_bytes + kSharedOfDriver)));
  return usable();
}
/// A launch, with a copy of its arguments.
struct Launch {
  const Kernel* kernel;
  dim3 grid, block;
  unsigned shared_bytes;
  bool overlaps;
  std::vector<uint8_t> arguments;
};
Result run(Launch& launched, Stream& stream) {
  const dim3 grid = launched.grid;
  std::unique_lock<std::mutex> lock(mutex);
  if (driver_options.fail_launch >= 0 && driver_options.fail_launch-- == 0) {
    lose_context();
    return kLaunchFailed;
  }
  if (driver_options.launch_time) {
    const int64_t count = int64_t{grid.x} * grid.y * grid.z;
    const double microseconds =
        (launched.overlaps ? driver_options.overlapped_share : 1) *
        driver_options.launch_time(launched.kernel->name, count, launched.arguments.data());
    stream.microseconds += microseconds;
    if (stream.tells_time && count > driver_options.computed_blocks) return kSuccess;
  }
  if (launched.overlaps && driver_options.loses_overlapped) return kSuccess;
  note_memory();
  if (!checking) lock.unlock();
  Options options;
  options.seed = driver_options.seed;
  // A thread costs more than a few small blocks.
  options.threads = grid.x * grid.y * grid.z < 8 ? 1 : driver_options.threads;
  options.shared = launched.shared_bytes;
  options.overlaps = launched.overlaps;
  void* parameters[] = {launched.arguments.data()};
  if (launch(grid, launched.block, options, [&] { launched.kernel->call(parameters); })) return kSuccess;
  lose_context();
  return kLaunchFailed;
}
Result launch_configured(const LaunchConfig* config, FunctionHandle function, void** parameters, void**) {
  constexpr Result kInvalidValue = 1, kNotSupported = 801;
  const StreamHandle handle = config->stream;
  if (usable(handle) != kSuccess) return usable(handle);
  const auto [grid_x, grid_y, grid_z] = config->grid;
  if (!grid_x || !grid_y || !grid_z || grid_y > 65535 || grid_z > 65535) return kInvalidValue;
  bool overlaps = false;
  for (unsigned i = 0; i < config->attribute_count; ++i) {
    if (config->attributes[i].id != kOverlapsPrevious) return kInvalidValue;
    overlaps = config->attributes[i].value != 0;
  }
  if (overlaps && (driver_options.capability < 90 || driver_options.refuses_overlapped)) return kNotSupported;
  if (overlaps) {
    const std::lock_guard<std::mutex> lock(mutex);
    ++driver_counts.overlapping;
  }
  if (!driver_options.computes) return kSuccess;
  const Kernel* kernel = reinterpret_cast<const Kernel*>(function);
  const uint8_t* bytes = static_cast<const uint8_t*>(parameters[0]);
  const Launch launched{kernel,
                        {grid_x, grid_y, grid_z},
                        {config->block[0], config->block[1], config->block[2]},
                        config->shared_bytes,
                        overlaps,
                        {bytes, bytes + kernel->parameter_bytes}};
  Stream* stream = capturing(handle);
  Operation operation;
  operation.launches = true;
  operation.run = [launched] {
    Launch copy = launched;  // a graph has the same one again
    return run(copy, *running_stream);
  };
  if (!stream) return enqueue(handle, std::move(operation));
  stream->captured.push_back(std::move(operation));
  return kSuccess;
}
Result launch_kernel(FunctionHandle function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                     unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                     StreamHandle handle, void** parameters, void** extra) {
  const LaunchConfig config{
      {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, handle, nullptr, 0};
  return launch_configured(&config, function, parameters, extra);
}
Result tensor_map(void* map, int, uint32_t rank, void* address, const uint64_t* sizes,
                  const uint64_t* strides, const uint32_t* box, const uint32_t*, int, int swizzle, int, int) {
  TensorMap made{};
  made.base = static_cast<const uint8_t*>(address);
  made.rank = static_cast<int>(rank);
  made.element_bytes = 2;
  made.swizzle = swizzle ? 16 << swizzle : 0;
  for (uint32_t d = 0; d < rank; ++d) {
    made.size[d] = sizes[d];
    made.stride[d] = d ? strides[d - 1] : 2;
    made.box[d] = box[d];
  }
  static_assert(sizeof made == 128, "as large as a CUtensorMap");
  memcpy(map, &made, sizeof made);
  return usable();
}
template <class Function>
void* address(Function* function) {
  return reinterpret_cast<void*>(function);
}

Result get_proc_address(const char* name, void** function, int version, uint64_t, int*) {
  static const std::map<std::string, void*> table = {
      {"cuInit", address(init)},
      {"cuDriverGetVersion", address(driver_version)},
      {"cuGetErrorName", address(error_name)},
      {"cuDeviceGetCount", address(device_count)},
      {"cuDeviceGet", address(device_get)},
      {"cuDeviceGetName", address(device_name)},
      {"cuDeviceTotalMem", address(device_memory)},
      {"cuDeviceGetAttribute", address(device_attribute)},
      {"cuDevicePrimaryCtxRetain", address(context_retain)},
      {"cuDevicePrimaryCtxRelease", address(context_release)},
      {"cuCtxCreate", address(context_create)},
      {"cuCtxDestroy", address(context_destroy)},
      {"cuCtxPushCurrent", address(context_push)},
      {"cuCtxPopCurrent", address(context_pop)},
      {"cuModuleLoadData", address(module_load)},
      {"cuModuleUnload", address(module_unload)},
      {"cuModuleGetFunction", address(module_function)},
      {"cuFuncGetAttribute", address(function_get)},
      {"cuFuncSetAttribute", address(function_set)},
      {"cuOccupancyMaxActiveBlocksPerMultiprocessor", address(resident_blocks)},
      {"cuMemAlloc", address(memory_allocate)},
      {"cuMemFree", address(memory_release)},
      {"cuMemGetInfo", address(memory_info)},
      {"cuMemHostAlloc", address(host_allocate)},
      {"cuMemFreeHost", address(host_release)},
      {"cuMemcpyHtoDAsync", address(copy_to_device)},
      {"cuMemcpyDtoHAsync", address(copy_to_host)},
      {"cuMemcpyDtoDAsync", address(copy_on_device)},
      {"cuLaunchKernel", address(launch_kernel)},
      {"cuLaunchKernelEx", address(launch_configured)},
      {"cuTensorMapEncodeTiled", address(tensor_map)},
      {"cuStreamCreate", address(stream_create)},
      {"cuStreamDestroy", address(stream_destroy)},
      {"cuStreamSynchronize", address(stream_synchronize)},
      {"cuStreamBeginCapture", address(capture_begin)},
      {"cuStreamEndCapture", address(capture_end)},
      {"cuGraphInstantiate", address(graph_instantiate)},
      {"cuGraphDestroy", address(graph_destroy)},
      {"cuGraphLaunch", address(graph_launch)},
      {"cuGraphExecDestroy", address(executable_destroy)},
      {"cuEventCreate", address(event_create)},
      {"cuEventDestroy", address(event_destroy)},
      {"cuEventRecord", address(event_record)},
      {"cuEventSynchronize", address(event_synchronize)},
      {"cuEventQuery", address(event_query)},
      {"cuEventElapsedTime", address(event_elapsed)},
  };
  // It has other arguments from CUDA 11.4 on.
  if (strcmp(name, "cuCtxCreate") == 0 && version >= 11040) return kNotFound;
  const auto found = table.find(name);
  if (found == table.end()) return kNotFound;
  *function = found->second;
  return kSuccess;
}

}  // namespace

void* symbol(void*, const char* name) {
  if (strcmp(name, "cuDriverGetVersion") == 0) return address(driver_version);
  if (strcmp(name, "cuGetProcAddress_v2") == 0) return address(get_proc_address);
  return nullptr;
}

const nd::cuda::Driver& driver() {
  static const nd::cuda::Driver table = nd::cuda::load_driver(symbol, nullptr);
  return table;
}

}  // namespace emu
