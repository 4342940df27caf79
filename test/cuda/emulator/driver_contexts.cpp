#include "driver_contexts.h"

#include <stdlib.h>

#include <algorithm>
#include <iterator>
#include <set>

#include "driver_memory.h"
#include "emulator.h"

namespace emu {

using namespace nd::cuda;

// Never destroyed: as a library, the emulator is called until the process has ended.
std::mutex& mutex = *new std::mutex;
std::map<DevicePointer, Allocation>& blocks = *new std::map<DevicePointer, Allocation>;

namespace {

constexpr int kMaxDevices = 16;
Context primaries[kMaxDevices] = {};
int64_t bytes[kMaxDevices] = {};
std::set<Context*>& contexts = *new std::set<Context*>;
std::set<Stream*>& streams = *new std::set<Stream*>;
std::set<Event*>& events = *new std::set<Event*>;
std::map<const Context*, Stream>& null_streams = *new std::map<const Context*, Stream>;

/// The contexts that this thread has pushed. Without a destructor: devices are closed when the process ends
/// as well.
class Pushed {
 public:
  bool empty() const { return count_ == 0; }
  Context* back() const { return contexts_[count_ - 1]; }
  void push_back(Context* context) {
    if (count_ == kMost) abort();
    contexts_[count_++] = context;
  }
  void pop_back() { --count_; }
  void remove(const Context* context) {
    count_ = static_cast<int>(std::remove(contexts_, contexts_ + count_, context) - contexts_);
  }

 private:
  static constexpr int kMost = 32;
  Context* contexts_[kMost];
  int count_;
};
thread_local Pushed pushed;
thread_local int captures_of_thread = 0;

template <class Thing>
void destroy_those_of(const Context* context, const std::set<Thing*>& things) {
  for (Thing* thing : std::set<Thing*>(things))
    if (thing->context == context) {
      forget(thing);
      delete thing;
    }
}

}  // namespace

int64_t bytes_on(int device) {
  return bytes[device];
}
void keep(DevicePointer pointer, size_t count) {
  blocks[pointer] = {count, pushed.back()};
  bytes[pushed.back()->device] += static_cast<int64_t>(count);
  ++driver_counts.allocations;
  driver_counts.bytes += static_cast<int64_t>(count);
  driver_counts.peak = std::max(driver_counts.peak, driver_counts.bytes);
}
void forget(std::map<DevicePointer, Allocation>::iterator block) {
  const int64_t count = static_cast<int64_t>(block->second.bytes);
  bytes[block->second.context->device] -= count;
  driver_counts.bytes -= count;
  release(reinterpret_cast<void*>(block->first));
  blocks.erase(block);
}
void keep(Stream* stream) {
  streams.insert(stream);
  ++driver_counts.streams;
}
void keep(Event* event) {
  events.insert(event);
  ++driver_counts.events;
}
bool forget(Stream* stream) {
  const bool lived = streams.erase(stream) > 0;
  driver_counts.streams -= lived;
  return lived;
}
bool forget(Event* event) {
  const bool lived = events.erase(event) > 0;
  driver_counts.events -= lived;
  return lived;
}

std::vector<Stream*> all_streams() {
  std::vector<Stream*> result(streams.begin(), streams.end());
  for (auto& [context, stream] : null_streams) result.push_back(&stream);
  return result;
}
Stream& stream_of(StreamHandle handle) {
  if (handle) return *reinterpret_cast<Stream*>(handle);
  const std::lock_guard<std::mutex> lock(mutex);
  Stream& stream = null_streams[current_context()];
  stream.context = current_context();
  return stream;
}

Context* current_context() {
  return pushed.back();
}
int& captures() {
  return captures_of_thread;
}
void lose_context() {
  pushed.back()->lost = true;
  if (!driver_options.lost_together) return;
  for (Context& primary : primaries) primary.lost = true;
  for (Context* context : contexts) context->lost = true;
}
void recover() {
  const std::lock_guard<std::mutex> lock(mutex);
  for (Stream* stream : all_streams())
    if (stream->context->lost) stream->pending.clear();
  for (Context& primary : primaries) primary.lost = false;
}

Result usable() {
  if (pushed.empty()) return 201;  // CUDA_ERROR_INVALID_CONTEXT
  return pushed.back()->lost ? kLaunchFailed : kSuccess;
}

Result usable(StreamHandle handle) {
  const Stream* stream = reinterpret_cast<Stream*>(handle);
  if (usable() == kSuccess && stream && stream->context != pushed.back())
    return 400;  // CUDA_ERROR_INVALID_HANDLE
  return usable();
}

Result usable(StreamHandle handle, DevicePointer pointer) {
  if (usable(handle) != kSuccess) return usable(handle);
  const std::lock_guard<std::mutex> lock(mutex);
  auto found = blocks.upper_bound(pointer);
  if (found != blocks.begin() && (--found)->second.context != pushed.back()) return kIllegalAddress;
  return kSuccess;
}

Result context_retain(ContextHandle* context, DeviceNumber device) {
  const std::lock_guard<std::mutex> lock(mutex);
  ++driver_counts.contexts;
  if (primaries[device].lost) null_streams[&primaries[device]].pending.clear();
  primaries[device] = {device, true, false};
  *context = reinterpret_cast<ContextHandle>(&primaries[device]);
  return kSuccess;
}
Result context_release(DeviceNumber) {
  const std::lock_guard<std::mutex> lock(mutex);
  --driver_counts.contexts;
  return kSuccess;
}
Result context_create(ContextHandle* handle, unsigned, DeviceNumber device) {
  if (driver_options.separate_context) driver_options.separate_context();
  const std::lock_guard<std::mutex> lock(mutex);
  if (static_cast<size_t>(bytes[device]) + driver_options.context_bytes > driver_options.memory)
    return kOutOfMemory;
  ++driver_counts.contexts;
  ++driver_counts.contexts_created;
  Context* context = new Context{device, false, false};
  contexts.insert(context);
  pushed.push_back(context);
  *handle = reinterpret_cast<ContextHandle>(context);
  return kSuccess;
}
Result context_destroy(ContextHandle handle) {
  const std::lock_guard<std::mutex> lock(mutex);
  Context* context = reinterpret_cast<Context*>(handle);
  if (!contexts.erase(context)) return 1;
  --driver_counts.contexts;
  for (auto block = blocks.begin(); block != blocks.end();) {
    const auto next = std::next(block);
    if (block->second.context == context) forget(block);
    block = next;
  }
  release_pinned(context);
  destroy_those_of(context, streams);
  null_streams.erase(context);
  destroy_those_of(context, events);
  pushed.remove(context);
  delete context;
  return kSuccess;
}
Result context_push(ContextHandle context) {
  pushed.push_back(reinterpret_cast<Context*>(context));
  return kSuccess;
}
Result context_pop(ContextHandle* context) {
  *context = nullptr;
  pushed.pop_back();
  return kSuccess;
}

}  // namespace emu
