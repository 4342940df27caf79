// The contexts of the emulated driver, and what belongs to them.
#pragma once
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
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
struct Stream;
/// What an event has come to. A stream may get there when the event is no more.
struct Moment {
  Stream* stream = nullptr;  // in which it was recorded last
  int recorded = 0, reached = 0;
  std::chrono::steady_clock::time_point time;
  double microseconds = 0;
};
struct Event {
  Context* context;
  std::shared_ptr<Moment> moment;
  bool tells_time = true;
};
/// What a stream is to do. Of copies: where they write, and the pinned memory that they read or write.
struct Operation {
  std::function<Result()> run;
  DevicePointer device = 0;
  const uint8_t* host = nullptr;
  size_t bytes = 0;
  bool launches = false;  // a kernel
};
/// A stream, what it has captured, and its clock where launches take what the options say.
struct Stream {
  Context* context = nullptr;
  bool capturing = false, tells_time = false;
  double microseconds = 0;
  std::vector<Operation> captured;
  std::deque<Operation> pending;
  std::mutex running;  // of the thread that does what is pending
};

extern std::mutex& mutex;  // of what is counted and pending, and of launches where one thread watches
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
/// All of them, those that nobody made (of handle 0) included. `mutex` must be locked.
std::vector<Stream*> all_streams();
/// The stream of a handle; 0 is that of the context which is current.
Stream& stream_of(StreamHandle handle);
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
