#include "counted_memory.h"

#include <algorithm>
#include <mutex>
#include <unordered_map>

namespace nd::cuda_bench {
namespace {

using namespace nd::cuda;

struct Count {
  std::mutex mutex;
  Driver inner{}, outer{};
  std::unordered_map<DevicePointer, size_t> blocks;
  size_t allocated = 0, peak = 0, peak_of_all = 0;
  bool watches = false;

  void look() {
    size_t free = 0, total = 0;
    if (inner.memory_info(&free, &total) == kSuccess) peak_of_all = std::max(peak_of_all, total - free);
  }
};

Count& count() {
  static Count result;
  return result;
}

Result allocate(DevicePointer* pointer, size_t bytes) {
  Count& all = count();
  const Result result = all.inner.memory_allocate(pointer, bytes);
  if (result != kSuccess) return result;
  const std::lock_guard<std::mutex> lock(all.mutex);
  all.blocks[*pointer] = bytes;
  all.allocated += bytes;
  all.peak = std::max(all.peak, all.allocated);
  if (all.watches) all.look();
  return result;
}

Result release(DevicePointer pointer) {
  Count& all = count();
  {
    const std::lock_guard<std::mutex> lock(all.mutex);
    const auto found = all.blocks.find(pointer);
    if (found != all.blocks.end()) {
      all.allocated -= found->second;
      all.blocks.erase(found);
    }
  }
  return all.inner.memory_release(pointer);
}

}  // namespace

const Driver& count_memory(const Driver& driver) {
  Count& all = count();
  all.inner = all.outer = driver;
  all.outer.memory_allocate = allocate;
  all.outer.memory_release = release;
  return all.outer;
}

size_t allocated_bytes() {
  const std::lock_guard<std::mutex> lock(count().mutex);
  return count().allocated;
}

size_t peak_bytes() {
  const std::lock_guard<std::mutex> lock(count().mutex);
  return count().peak;
}

size_t peak_bytes_of_all() {
  const std::lock_guard<std::mutex> lock(count().mutex);
  count().look();
  return count().peak_of_all;
}

void watch_memory() {
  Count& all = count();
  const std::lock_guard<std::mutex> lock(all.mutex);
  all.watches = true;
  all.peak = all.allocated;
  all.peak_of_all = 0;
}

void stop_watching_memory() {
  const std::lock_guard<std::mutex> lock(count().mutex);
  count().watches = false;
}

}  // namespace nd::cuda_bench
