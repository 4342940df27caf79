// The CUDA driver as a table of functions: libcuda, opened when it is first asked for and never linked, or
// the emulator of the tests. The few types that we need are declared here, so that nothing of NVIDIA's is
// needed to build; names and values are those of cuda.h.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/error.h"

namespace nd::cuda {

using Result = int;  // CUresult
using DeviceNumber = int;
using DevicePointer = uint64_t;
using ContextHandle = struct CUctx_st*;
using ModuleHandle = struct CUmod_st*;
using FunctionHandle = struct CUfunc_st*;
using StreamHandle = struct CUstream_st*;
using EventHandle = struct CUevent_st*;
using GraphHandle = struct CUgraph_st*;
using GraphExecutableHandle = struct CUgraphExec_st*;

enum : Result {
  kSuccess = 0,
  kOutOfMemory = 2,
  kNotInitialized = 3,
  kNoDevice = 100,
  kNoBinary = 209,
  kNotFound = 500,
  kNotReady = 600,
  kIllegalAddress = 700,
  kLaunchFailed = 719,
};
enum DeviceAttribute : int {
  kMultiprocessors = 16,
  kComputeMajor = 75,
  kComputeMinor = 76,
  kSharedMemoryPerBlock = 97,  // after opting in
};
enum FunctionAttribute : int { kPtxVersion = 5, kMaxDynamicShared = 8 };
/// CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION.
enum LaunchAttributeKind : int { kOverlapsPrevious = 6 };
enum StreamFlag : unsigned { kNonBlocking = 1 };
enum EventFlag : unsigned { kNoTiming = 2 };
enum CaptureMode : int { kCaptureThread = 1 };  // calls of other threads do not matter

/// CUlaunchAttribute, whose value is a union of 64 bytes.
struct alignas(8) LaunchAttribute {
  int id;
  alignas(8) int value;
  int more[15];
};
/// CUlaunchConfig.
struct LaunchConfig {
  unsigned grid[3], block[3], shared_bytes;
  StreamHandle stream;
  LaunchAttribute* attributes;
  unsigned attribute_count;
};
static_assert(sizeof(LaunchAttribute) == 72 && offsetof(LaunchAttribute, value) == 8 &&
                  sizeof(LaunchConfig) == 56 && offsetof(LaunchConfig, stream) == 32,
              "as in cuda.h");

struct Driver {
  Result (*init)(unsigned flags);
  Result (*driver_version)(int* version);
  Result (*error_name)(Result error, const char** name);
  Result (*device_count)(int* count);
  Result (*device_get)(DeviceNumber* device, int ordinal);
  Result (*device_name)(char* name, int length, DeviceNumber device);
  Result (*device_memory)(size_t* bytes, DeviceNumber device);
  Result (*device_attribute)(int* value, int attribute, DeviceNumber device);
  Result (*context_retain)(ContextHandle* context, DeviceNumber device);
  Result (*context_release)(DeviceNumber device);
  /// Leaves the context current.
  Result (*context_create)(ContextHandle* context, unsigned flags, DeviceNumber device);
  /// With all memory, modules, streams and events of it.
  Result (*context_destroy)(ContextHandle context);
  Result (*context_push)(ContextHandle context);
  Result (*context_pop)(ContextHandle* context);
  Result (*module_load)(ModuleHandle* module, const void* image);
  Result (*module_unload)(ModuleHandle module);
  Result (*module_function)(FunctionHandle* function, ModuleHandle module, const char* name);
  Result (*function_get)(int* value, int attribute, FunctionHandle function);
  Result (*function_set)(FunctionHandle function, int attribute, int value);
  /// cuOccupancyMaxActiveBlocksPerMultiprocessor.
  Result (*resident_blocks)(int* blocks, FunctionHandle function, int threads, size_t shared_bytes);
  Result (*memory_allocate)(DevicePointer* pointer, size_t bytes);
  Result (*memory_release)(DevicePointer pointer);
  Result (*memory_info)(size_t* free, size_t* total);
  /// Pinned memory of the host, which copies run from and to beside the host's work.
  Result (*host_allocate)(void** pointer, size_t bytes, unsigned flags);
  Result (*host_release)(void* pointer);
  Result (*copy_to_device)(DevicePointer to, const void* from, size_t bytes, StreamHandle stream);
  Result (*copy_to_host)(void* to, DevicePointer from, size_t bytes, StreamHandle stream);
  Result (*copy_on_device)(DevicePointer to, DevicePointer from, size_t bytes, StreamHandle stream);
  Result (*launch)(FunctionHandle function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                   unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                   StreamHandle stream, void** parameters, void** extra);
  /// cuLaunchKernelEx.
  Result (*launch_configured)(const LaunchConfig* config, FunctionHandle function, void** parameters,
                              void** extra);
  /// cuTensorMapEncodeTiled; `map` has 128 bytes.
  Result (*tensor_map)(void* map, int type, uint32_t rank, void* address, const uint64_t* sizes,
                       const uint64_t* strides, const uint32_t* box, const uint32_t* steps, int interleave,
                       int swizzle, int promotion, int fill);
  Result (*stream_create)(StreamHandle* stream, unsigned flags);
  Result (*stream_destroy)(StreamHandle stream);
  Result (*stream_synchronize)(StreamHandle stream);
  Result (*capture_begin)(StreamHandle stream, int mode);
  Result (*capture_end)(StreamHandle stream, GraphHandle* graph);
  Result (*graph_instantiate)(GraphExecutableHandle* executable, GraphHandle graph, unsigned long long flags);
  Result (*graph_destroy)(GraphHandle graph);
  Result (*graph_launch)(GraphExecutableHandle executable, StreamHandle stream);
  Result (*executable_destroy)(GraphExecutableHandle executable);
  Result (*event_create)(EventHandle* event, unsigned flags);
  Result (*event_destroy)(EventHandle event);
  Result (*event_record)(EventHandle event, StreamHandle stream);
  Result (*event_synchronize)(EventHandle event);
  Result (*event_query)(EventHandle event);  // kNotReady until it has come
  Result (*event_elapsed)(float* milliseconds, EventHandle from, EventHandle to);
};

/// libcuda's, opened by the first call that succeeds. The environment variable NODE_DIFFUSION_CUDA_DRIVER
/// names another library. Error device_unavailable: there is no driver, or it is older than CUDA 12.
const Driver& system_driver();

/// The table from two functions: one that finds symbols of a library, by which cuGetProcAddress itself is
/// found, and the version to ask that for. Error device_unavailable names what is missing.
Driver load_driver(void* (*symbol)(void* library, const char* name), void* library);

/// The driver's name of an error and its number.
std::string error_text(const Driver& driver, Result result);

/// Throws what a failed call means: out_of_memory, device_unavailable or device_lost. `what` begins a
/// sentence ("Could not start a kernel").
void check(const Driver& driver, Result result, const char* what);

}  // namespace nd::cuda
