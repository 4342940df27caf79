// Device memory, and copies into shared memory that are under way.
#include <string.h>
#include <sys/mman.h>

#include <map>
#include <mutex>

#include "internal.h"

namespace emu {
namespace {

struct Region {
  uint8_t* map;
  size_t length;
};
// Never destroyed: as a library, the emulator is called until the process has ended.
std::map<const void*, Region>& regions = *new std::map<const void*, Region>;
std::mutex& regions_mutex = *new std::mutex;
constexpr size_t kPage = 4096, kAlignment = 256;

}  // namespace

void* allocate(size_t bytes) {
  const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  const size_t data = (rounded + kPage - 1) / kPage * kPage, length = data + 2 * kPage;
  void* map = mmap(nullptr, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (map == MAP_FAILED) return nullptr;
  uint8_t* begin = static_cast<uint8_t*>(map);
  if (mprotect(begin + kPage, data, PROT_READ | PROT_WRITE) != 0) {
    munmap(map, length);
    return nullptr;
  }
  // It ends at the guard page, as nearly as the alignment allows.
  uint8_t* pointer = begin + kPage + data - rounded;
  memset(pointer, 0xff, rounded);
  const std::lock_guard<std::mutex> lock(regions_mutex);
  regions[pointer] = {begin, length};
  if (checking) watch(pointer, bytes, false);
  return pointer;
}

void release(void* pointer) {
  const std::lock_guard<std::mutex> lock(regions_mutex);
  const auto found = regions.find(pointer);
  if (found == regions.end()) return;
  if (checking) unwatch(pointer);
  munmap(found->second.map, found->second.length);
  regions.erase(found);
}

void upload(void* device, const void* host, size_t bytes) {
  memcpy(device, host, bytes);
  if (checking) mark_written(device, bytes);
}

void poison(void* device, size_t bytes) {
  memset(device, 0xff, bytes);
  if (checking) mark_written(device, bytes, false);
}

void download(void* host, const void* device, size_t bytes) {
  memcpy(host, device, bytes);
}

void copy(void* to, const void* from, size_t bytes) {
  memcpy(to, from, bytes);
  if (checking) mark_written(to, bytes);
}

// --- cp.async ---

bool completes_now() {
  return block->seed == 1 || (block->seed > 1 && (block->next() & 1));
}

void finish(Copy& one) {
  memcpy(one.to, one.from, one.valid);
  memset(static_cast<uint8_t*>(one.to) + one.valid, 0, one.bytes - one.valid);
  one.done = true;
}

void copy_async(void* to, const void* from, uint32_t bytes, uint32_t valid, Here here) {
  Fiber& f = *block->current;
  if (reinterpret_cast<uintptr_t>(to) % bytes || (valid && reinterpret_cast<uintptr_t>(from) % bytes))
    return fault("cp.async: address is not aligned", here, true);
  const uint8_t* at = static_cast<uint8_t*>(to);
  if (at < block->shared || at + bytes > block->shared + block->shared_bytes)
    return fault("cp.async: destination is not in shared memory", here, true);
  if (checking) {
    if (valid) check(from, valid, Access::read, here);
    check(to, bytes, Access::async_begin, here);
  }
  f.copies.push_back({to, from, bytes, valid, f.group, false, here});
  if (completes_now())
    finish(f.copies.back());
  else
    memset(to, 0xff, bytes);  // whoever reads too early gets NaN
}

void commit_group() {
  ++block->current->group;
}

void wait_group(int max_pending, Here) {
  Fiber& f = *block->current;
  size_t kept = 0;
  for (Copy& one : f.copies) {
    if (one.group >= f.group - max_pending) {
      f.copies[kept++] = one;
      continue;
    }
    if (!one.done) finish(one);
    touch(one.to, one.bytes, Access::async_end, one.here);
  }
  block->counted.copies += f.copies.size() - kept;
  f.copies.resize(kept, Copy{});
}

}  // namespace emu
