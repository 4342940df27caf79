#include "core/memory.h"

#include <string>

#include "core/error.h"
#include "core/os.h"

#ifdef __linux__
#include <dlfcn.h>
#endif

namespace nd {
namespace {

class HostMemory final : public Memory {
 public:
  Address allocate(size_t bytes) override {
    void* block = os::allocate_pages(bytes);
    if (!block)
      throw Error(ErrorCode::out_of_memory,
                  "Could not allocate " + std::to_string(bytes >> 20) + " MB of working memory");
    os::prefer_huge_pages(block, bytes);
    return {reinterpret_cast<uintptr_t>(block)};
  }
  void release(Address block, size_t bytes) noexcept override {
    os::release_pages(reinterpret_cast<void*>(block.value), bytes);
  }
};

}  // namespace

Memory& host_memory() {
  // Never destroyed: a call may still be running when the process ends.
  static HostMemory* memory = new HostMemory();
  return *memory;
}

void release_free_heap() {
#ifdef __linux__
  // glibc alone has it, and the same addon runs with musl.
  static const auto trim = reinterpret_cast<int (*)(size_t)>(dlsym(RTLD_DEFAULT, "malloc_trim"));
  if (trim) trim(0);
#endif
}

}  // namespace nd
