#include "failing_memory.h"

#ifdef ND_TEST_FAILING_MEMORY
#include <dlfcn.h>
#include <malloc.h>
#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <limits>
#include <new>

namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
std::atomic<int64_t> left{kNever};
std::atomic<int64_t> used{0};

bool fails() {
  if (left.load(std::memory_order_relaxed) == kNever) return false;
  return left.fetch_sub(1) <= 1;
}

void* allocate(size_t bytes, size_t alignment) {
  if (fails()) throw std::bad_alloc();
  void* block = alignment ? std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment)
                          : std::malloc(bytes ? bytes : 1);
  if (!block) throw std::bad_alloc();
  used += static_cast<int64_t>(malloc_usable_size(block));
  return block;
}

void release(void* block) noexcept {
  if (block) used -= static_cast<int64_t>(malloc_usable_size(block));
  std::free(block);
}

}  // namespace

namespace nd::test::failing_memory {

void from(int64_t call) {
  left = call;
}

bool stop() {
  return left.exchange(kNever) <= 0;
}

int64_t in_use() {
  return used;
}

}  // namespace nd::test::failing_memory

void* operator new(size_t bytes) {
  return allocate(bytes, 0);
}
void* operator new[](size_t bytes) {
  return allocate(bytes, 0);
}
void* operator new(size_t bytes, std::align_val_t alignment) {
  return allocate(bytes, static_cast<size_t>(alignment));
}
void* operator new[](size_t bytes, std::align_val_t alignment) {
  return allocate(bytes, static_cast<size_t>(alignment));
}
void operator delete(void* block) noexcept {
  release(block);
}
void operator delete[](void* block) noexcept {
  release(block);
}
void operator delete(void* block, size_t) noexcept {
  release(block);
}
void operator delete[](void* block, size_t) noexcept {
  release(block);
}
void operator delete(void* block, std::align_val_t) noexcept {
  release(block);
}
void operator delete[](void* block, std::align_val_t) noexcept {
  release(block);
}
void operator delete(void* block, size_t, std::align_val_t) noexcept {
  release(block);
}
void operator delete[](void* block, size_t, std::align_val_t) noexcept {
  release(block);
}

// NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name)
extern "C" __attribute__((visibility("default"))) void* mmap(void* at, size_t length, int protection,
                                                             int flags, int file, off_t offset) {
  using Map = void* (*)(void*, size_t, int, int, int, off_t);
  static const Map map = reinterpret_cast<Map>(dlsym(RTLD_NEXT, "mmap"));
  if (fails()) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  return map(at, length, protection, flags, file, offset);
}
#endif
