#include "driver_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <iterator>

#include "driver_streams.h"
#include "emulator.h"
#include "internal.h"

namespace emu {

using namespace nd::cuda;

namespace {

constexpr size_t kPage = 4096;
constexpr int kInvalidValue = 1;  // CUDA_ERROR_INVALID_VALUE

/// Pinned memory by its first byte.
std::map<const uint8_t*, Allocation>& pinned = *new std::map<const uint8_t*, Allocation>;

bool is_pinned(const void* memory, size_t bytes) {
  const uint8_t* begin = static_cast<const uint8_t*>(memory);
  const std::lock_guard<std::mutex> lock(mutex);
  auto found = pinned.upper_bound(begin);
  if (found == pinned.begin()) return false;
  --found;
  return begin + bytes <= found->first + found->second.bytes;
}

std::map<const uint8_t*, Allocation>::iterator forget(std::map<const uint8_t*, Allocation>::iterator block) {
  driver_counts.pinned -= static_cast<int64_t>(block->second.bytes);
  free(const_cast<uint8_t*>(block->first));
  return pinned.erase(block);
}

template <class Place>
bool meet(Place a, size_t a_bytes, Place b, size_t b_bytes) {
  return a < b + b_bytes && b < a + a_bytes;
}

/// Removes pending copies from or to memory that is freed: faults. `mutex` must be locked.
template <class Uses>
void cancel_copies(const Uses& uses) {
  for (Stream* stream : all_streams())
    for (auto one = stream->pending.begin(); one != stream->pending.end();) {
      if (one->bytes && uses(*one)) {
        fault("memory is freed while a copy from or to it is pending", {"the host", 0}, false);
        one = stream->pending.erase(one);
      } else {
        ++one;
      }
    }
}

/// Whether the stream has nothing to do, so that nothing of it reads what is poisoned.
bool idle(StreamHandle handle) {
  const Stream& stream = stream_of(handle);
  const std::lock_guard<std::mutex> lock(mutex);
  return stream.pending.empty();
}

void note_copy(const char* direction, size_t bytes) {
  if (!driver_options.copies) return;
  const std::lock_guard<std::mutex> lock(mutex);
  FILE* const file = fopen(driver_options.copies, "a");
  if (!file) return;
  fprintf(file, "%s %zu\n", direction, bytes);
  fclose(file);
}

}  // namespace

void release_pinned(const Context* context) {
  for (auto block = pinned.begin(); block != pinned.end();)
    block = block->second.context == context ? forget(block) : std::next(block);
}

Result memory_allocate(DevicePointer* pointer, size_t bytes) {
  if (usable() != kSuccess) return usable();
  if (captures() > 0) return kCaptureUnsupported;
  if (bytes == 0) return kInvalidValue;
  const std::lock_guard<std::mutex> lock(mutex);
  if (static_cast<size_t>(bytes_on(current_context()->device)) + bytes > driver_options.memory)
    return kOutOfMemory;
  void* block = allocate(bytes);
  if (!block) return kOutOfMemory;
  *pointer = reinterpret_cast<DevicePointer>(block);
  keep(*pointer, bytes);
  return kSuccess;
}
Result memory_release(DevicePointer pointer) {
  if (captures() > 0) return kCaptureUnsupported;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = blocks.find(pointer);
  if (found == blocks.end()) return kInvalidValue;
  cancel_copies([&](const Operation& one) {
    return meet<DevicePointer>(one.device, one.bytes, pointer, found->second.bytes);
  });
  forget(found);
  return usable();
}
Result memory_info(size_t* free, size_t* total) {
  if (usable() != kSuccess) return usable();
  *total = driver_options.memory;
  *free = *total - static_cast<size_t>(bytes_on(current_context()->device));
  return kSuccess;
}
Result host_allocate(void** pointer, size_t bytes, unsigned) {
  if (usable() != kSuccess) return usable();
  if (captures() > 0) return kCaptureUnsupported;
  if (bytes == 0) return kInvalidValue;
  const std::lock_guard<std::mutex> lock(mutex);
  const int64_t most = driver_options.pinned;
  if (most >= 0 && driver_counts.pinned + static_cast<int64_t>(bytes) > most) return kOutOfMemory;
  void* block = aligned_alloc(kPage, (bytes + kPage - 1) / kPage * kPage);
  if (!block) return kOutOfMemory;
  memset(block, 0xff, bytes);
  pinned[static_cast<uint8_t*>(block)] = {bytes, current_context()};
  driver_counts.pinned += static_cast<int64_t>(bytes);
  *pointer = block;
  return kSuccess;
}
Result host_release(void* pointer) {
  if (captures() > 0) return kCaptureUnsupported;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = pinned.find(static_cast<uint8_t*>(pointer));
  if (found == pinned.end()) return kInvalidValue;
  cancel_copies([&](const Operation& one) {
    return one.host && meet(one.host, one.bytes, found->first, found->second.bytes);
  });
  forget(found);
  return usable();
}
Result copy_to_device(DevicePointer to, const void* from, size_t bytes, StreamHandle stream) {
  // CUDA would capture the address of the host's memory, which nobody here means to keep.
  if (capturing(stream)) return kCaptureUnsupported;
  const Result result = usable(stream, to);
  if (result != kSuccess) return result;
  note_copy("to-device", bytes);
  const uint8_t* begin = static_cast<const uint8_t*>(from);
  const bool stays = is_pinned(from, bytes);
  // Whoever reads it before the copy is done gets NaN.
  if (idle(stream)) poison(reinterpret_cast<void*>(to), bytes);
  return enqueue(stream,
                 {[=, copied = std::vector<uint8_t>(begin, begin + bytes)] {
                    if (stays && memcmp(begin, copied.data(), bytes) != 0)
                      fault("pinned memory changes before a copy from it is done", {"the host", 0}, false);
                    // Of other memory, the driver has taken what was there.
                    upload(reinterpret_cast<void*>(to), stays ? begin : copied.data(), bytes);
                    return kSuccess;
                  },
                  to, stays ? begin : nullptr, bytes});
}
Result copy_to_host(void* to, DevicePointer from, size_t bytes, StreamHandle stream) {
  if (capturing(stream)) return kCaptureUnsupported;
  const Result result = usable(stream, from);
  if (result != kSuccess) return result;
  note_copy("to-host", bytes);
  uint8_t* begin = static_cast<uint8_t*>(to);
  const auto copy = [=] {
    download(begin, reinterpret_cast<void*>(from), bytes);
    return kSuccess;
  };
  if (is_pinned(to, bytes)) {
    if (idle(stream)) memset(to, 0xff, bytes);
    return enqueue(stream, {copy, from, begin, bytes});
  }
  work_off(stream_of(stream));
  if (usable() == kSuccess) copy();
  return usable();
}
Result copy_on_device(DevicePointer to, DevicePointer from, size_t bytes, StreamHandle handle) {
  const auto operation = [=] {
    copy(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes);
    return kSuccess;
  };
  if (Stream* stream = capturing(handle)) {
    stream->captured.push_back({operation});
    return usable();
  }
  const Result result = usable(handle, to);
  return result == kSuccess ? enqueue(handle, {operation, to, nullptr, bytes}) : result;
}

}  // namespace emu
