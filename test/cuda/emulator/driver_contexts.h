// The contexts of the emulated driver, and what belongs to them.
#pragma once
#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <vector>

#include "driver.h"

namespace emu {

using nd::cuda::ContextHandle;
using nd::cuda::DeviceNumber;
using nd::cuda::DevicePointer;
using nd::cuda::Result;
using nd::cuda::StreamHandle;

struct Context {
  int device;
  bool primary, lost;
};
struct Allocation {
  size_t bytes;
  Context* context;
};
struct Event {
  Context* context;
  std::chrono::steady_clock::time_point time;
  double microseconds;
};
/// A stream, what it has captured, and its clock where launches take what the options say.
struct Stream {
  Context* context = nullptr;
  bool capturing = false;
  double microseconds = 0;
  std::vector<std::function<Result()>> captured;
};

extern std::mutex& mutex;  // of what is counted, and of launches where one thread watches
extern std::map<DevicePointer, Allocation>& blocks;
/// Of all contexts.
int64_t bytes_on(int device);
/// Counts a block of the context that is current.
void keep(DevicePointer pointer, size_t bytes);
void forget(std::map<DevicePointer, Allocation>::iterator block);
// Those that live: a context that is destroyed takes its own with it.
void keep(Stream* stream);
void keep(Event* event);
/// Whether it lived.
bool forget(Stream* stream);
bool forget(Event* event);

/// Of the calling thread.
Context* current_context();
/// Captures of this thread, during which it must not allocate or free, as CUDA has it.
int& captures();
/// The context that is current fails from now on.
void lose_context();

/// Every call needs a context, and a device that is not lost.
Result usable();
/// The same, and a stream belongs to one context.
Result usable(StreamHandle handle);
/// The same, and memory that is written or read belongs to the context.
Result usable(StreamHandle handle, DevicePointer pointer);

Result context_retain(ContextHandle* context, DeviceNumber device);
Result context_release(DeviceNumber device);
Result context_create(ContextHandle* handle, unsigned flags, DeviceNumber device);
Result context_destroy(ContextHandle handle);
Result context_push(ContextHandle context);
Result context_pop(ContextHandle* context);

}  // namespace emu
