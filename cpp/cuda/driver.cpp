#include "cuda/driver.h"

#include <cstdlib>
#include <string>

#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace nd::cuda {
namespace {

/// Of the interfaces that we ask cuGetProcAddress for: CUDA 12.0, which drivers have had since December 2022.
constexpr int kInterface = 12000;

[[noreturn]] void unavailable(const std::string& message) {
  throw Error(ErrorCode::device_unavailable, message);
}

#ifdef _WIN32
constexpr const char* kLibrary = "nvcuda.dll";

void* open_library(const std::string& path, std::string&) {
  return reinterpret_cast<void*>(LoadLibraryA(path.c_str()));
}
void* find_symbol(void* library, const char* name) {
  return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(library), name));
}
#else
constexpr const char* kLibrary = "libcuda.so.1";

void* open_library(const std::string& path, std::string& why) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  const char* text = library ? nullptr : dlerror();  // NOLINT(concurrency-mt-unsafe): the thread's own
  if (text) why = text;
  return library;
}
void* find_symbol(void* library, const char* name) {
  return dlsym(library, name);
}
#endif

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

/// cuGetProcAddress, which has had a fifth argument since CUDA 12.
struct Finder {
  Result (*find)(const char* symbol, void** function, int version, uint64_t flags, int* status) = nullptr;
  Result (*find_before_12)(const char* symbol, void** function, int version, uint64_t flags) = nullptr;

  template <class Function>
  void operator()(const char* name, Function*& function, int at_least = kInterface) const {
    void* found = nullptr;
    const Result result =
        find ? find(name, &found, at_least, 0, nullptr) : find_before_12(name, &found, at_least, 0);
    if (result != kSuccess || !found)
      unavailable("The NVIDIA driver has no " + std::string(name) + ". Install a newer driver.");
    function = reinterpret_cast<Function*>(found);
  }
};

}  // namespace

Driver load_driver(void* (*symbol)(void* library, const char* name), void* library) {
  Driver driver{};
  const auto version_of = reinterpret_cast<Result (*)(int*)>(symbol(library, "cuDriverGetVersion"));
  int version = 0;
  if (!version_of || version_of(&version) != kSuccess)
    unavailable("The NVIDIA driver does not tell its version.");
  Finder find;
  find.find = reinterpret_cast<decltype(find.find)>(symbol(library, "cuGetProcAddress_v2"));
  find.find_before_12 = reinterpret_cast<decltype(find.find_before_12)>(symbol(library, "cuGetProcAddress"));
  if (version < kInterface || (!find.find && !find.find_before_12))
    unavailable("The NVIDIA driver is too old: it supports CUDA " + version_text(version) + ", and CUDA " +
                version_text(kInterface) + " is needed. Install version 525 or newer.");
  find("cuInit", driver.init);
  find("cuDriverGetVersion", driver.driver_version);
  find("cuGetErrorName", driver.error_name);
  find("cuDeviceGetCount", driver.device_count);
  find("cuDeviceGet", driver.device_get);
  find("cuDeviceGetName", driver.device_name);
  find("cuDeviceTotalMem", driver.device_memory);
  find("cuDeviceGetAttribute", driver.device_attribute);
  find("cuDevicePrimaryCtxRetain", driver.context_retain);
  find("cuDevicePrimaryCtxRelease", driver.context_release);
  // CUDA 11.4 gave it more arguments.
  find("cuCtxCreate", driver.context_create, 3020);
  find("cuCtxDestroy", driver.context_destroy);
  find("cuCtxPushCurrent", driver.context_push);
  find("cuCtxPopCurrent", driver.context_pop);
  find("cuModuleLoadData", driver.module_load);
  find("cuModuleUnload", driver.module_unload);
  find("cuModuleGetFunction", driver.module_function);
  find("cuFuncGetAttribute", driver.function_get);
  find("cuFuncSetAttribute", driver.function_set);
  find("cuOccupancyMaxActiveBlocksPerMultiprocessor", driver.resident_blocks);
  find("cuMemAlloc", driver.memory_allocate);
  find("cuMemFree", driver.memory_release);
  find("cuMemGetInfo", driver.memory_info);
  find("cuMemHostAlloc", driver.host_allocate);
  find("cuMemFreeHost", driver.host_release);
  find("cuMemcpyHtoDAsync", driver.copy_to_device);
  find("cuMemcpyDtoHAsync", driver.copy_to_host);
  find("cuMemcpyDtoDAsync", driver.copy_on_device);
  find("cuLaunchKernel", driver.launch);
  find("cuLaunchKernelEx", driver.launch_configured);
  find("cuTensorMapEncodeTiled", driver.tensor_map);
  find("cuStreamCreate", driver.stream_create);
  find("cuStreamDestroy", driver.stream_destroy);
  find("cuStreamSynchronize", driver.stream_synchronize);
  find("cuStreamBeginCapture", driver.capture_begin);
  find("cuStreamEndCapture", driver.capture_end);
  find("cuGraphInstantiate", driver.graph_instantiate);
  find("cuGraphDestroy", driver.graph_destroy);
  find("cuGraphLaunch", driver.graph_launch);
  find("cuGraphExecDestroy", driver.executable_destroy);
  find("cuEventCreate", driver.event_create);
  find("cuEventDestroy", driver.event_destroy);
  find("cuEventRecord", driver.event_record);
  find("cuEventSynchronize", driver.event_synchronize);
  find("cuEventQuery", driver.event_query);
  find("cuEventElapsedTime", driver.event_elapsed);
  return driver;
}

const Driver& system_driver() {
  static const Driver driver = [] {
    const char* chosen = std::getenv("NODE_DIFFUSION_CUDA_DRIVER");  // NOLINT(concurrency-mt-unsafe)
    const std::string path = chosen && *chosen ? chosen : kLibrary;
    std::string why;
    void* library = open_library(path, why);
    if (!library)
      unavailable("There is no NVIDIA driver on this machine (" + (why.empty() ? path : why) +
                  "). Use device 'cpu', or install the driver.");
    return load_driver(find_symbol, library);
  }();
  return driver;
}

std::string error_text(const Driver& driver, Result result) {
  const char* name = nullptr;
  if (driver.error_name(result, &name) != kSuccess || !name) name = "an unknown error";
  return std::string(name) + " (" + std::to_string(result) + ")";
}

void check(const Driver& driver, Result result, const char* what) {
  if (result == kSuccess) return;
  const std::string message = std::string(what) + ": " + error_text(driver, result);
  switch (result) {
    case kOutOfMemory:
      throw Error(ErrorCode::out_of_memory, message);
    case kNoDevice:
      throw Error(ErrorCode::device_unavailable, "No NVIDIA GPU is visible to this process. " + message);
    case kNoBinary:
      throw Error(ErrorCode::device_unavailable, "The kernels were not built for this GPU. " + message);
    case kNotInitialized:
    case kNotFound:
      throw Error(ErrorCode::device_unavailable, message);
    default:
      throw Error(ErrorCode::device_lost,
                  message + ". Dispose of all models on this device, and load them again to go on.");
  }
}

}  // namespace nd::cuda
