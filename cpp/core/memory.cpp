#include "core/memory.h"

#include <sys/mman.h>

#include <string>

#include "core/error.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace nd {
namespace {

class HostMemory final : public Memory {
 public:
  Address allocate(size_t bytes) override {
    void* block = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED)
      throw Error(ErrorCode::out_of_memory,
                  "Could not allocate " + std::to_string(bytes >> 20) + " MB of working memory");
#ifdef MADV_HUGEPAGE
    madvise(block, bytes, MADV_HUGEPAGE);
#endif
    return {reinterpret_cast<uintptr_t>(block)};
  }
  void release(Address block, size_t bytes) noexcept override {
    munmap(reinterpret_cast<void*>(block.value), bytes);
  }
};

}  // namespace

Memory& host_memory() {
  // Never destroyed: a call may still be running when the process ends.
  static HostMemory* memory = new HostMemory();
  return *memory;
}

void release_free_heap() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

}  // namespace nd
