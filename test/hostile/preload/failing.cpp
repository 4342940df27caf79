// A library for LD_PRELOAD that is a Node.js addon at the same time: it makes allocations, reads and thread starts of the
// addon under test fail, and those of Node.js itself succeed.
#include <dlfcn.h>
#include <node_api.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>
#include <unwind.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <link.h>
#include <new>

namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

struct Range {
  uintptr_t begin = 0, end = 0;
  bool holds(uintptr_t address) const { return address >= begin && address < end; }
};
// Of the addon's code, and of the C++ library's, which allocates on behalf of both the addon and Node.js.
Range addon, library;

enum Kind { kMemory, kRead, kThread, kKinds };
std::atomic<int64_t> left[kKinds] = {{kNever}, {kNever}, {kNever}}, seen[kKinds] = {{0}, {0}, {0}};
std::atomic<int> read_error{EIO};

int find_ranges(struct dl_phdr_info* info, size_t, void*) {
  const bool is_addon = std::strstr(info->dlpi_name, "node_diffusion.node") != nullptr;
  const bool is_library = std::strstr(info->dlpi_name, "libstdc++") != nullptr;
  if (!is_addon && !is_library) return 0;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& segment = info->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD || !(segment.p_flags & PF_X)) continue;
    const uintptr_t begin = info->dlpi_addr + segment.p_vaddr;
    (is_addon ? addon : library) = {begin, begin + segment.p_memsz};
  }
  return 0;
}

/// Whether the nearest caller outside of the C++ library is the addon.
bool from_addon(uintptr_t caller) {
  if (addon.holds(caller)) return true;
  if (!library.holds(caller)) return false;
  struct Walk {
    bool found = false;
  } walk;
  _Unwind_Backtrace(
      [](struct _Unwind_Context* context, void* data) {
        const uintptr_t at = _Unwind_GetIP(context);
        static_cast<Walk*>(data)->found = addon.holds(at);
        static const uintptr_t self = reinterpret_cast<uintptr_t>(&find_ranges);
        const bool here = at > self - (1 << 16) && at < self + (1 << 16);
        return here || library.holds(at) ? _URC_NO_REASON : _URC_END_OF_STACK;
      },
      &walk);
  return walk.found;
}

bool fails(Kind kind, uintptr_t caller) {
  if (left[kind].load(std::memory_order_relaxed) == kNever || !from_addon(caller)) return false;
  ++seen[kind];
  return left[kind].fetch_sub(1) <= 1;
}

#define CALLER reinterpret_cast<uintptr_t>(__builtin_return_address(0))

void* allocate(size_t bytes, size_t alignment, uintptr_t caller) {
  if (fails(kMemory, caller)) throw std::bad_alloc();
  void* block = alignment ? std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment)
                          : std::malloc(bytes ? bytes : 1);
  if (!block) throw std::bad_alloc();
  return block;
}

template <class Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

}  // namespace

#define EXPORT __attribute__((visibility("default")))

EXPORT void* operator new(size_t bytes) {
  return allocate(bytes, 0, CALLER);
}
EXPORT void* operator new[](size_t bytes) {
  return allocate(bytes, 0, CALLER);
}
EXPORT void* operator new(size_t bytes, std::align_val_t alignment) {
  return allocate(bytes, static_cast<size_t>(alignment), CALLER);
}
EXPORT void* operator new[](size_t bytes, std::align_val_t alignment) {
  return allocate(bytes, static_cast<size_t>(alignment), CALLER);
}

extern "C" {

EXPORT void* mmap(void* at, size_t length, int protection, int flags, int file, off_t offset) {
  using Map = void* (*)(void*, size_t, int, int, int, off_t);
  static const Map map = next<Map>("mmap");
  if (fails(kMemory, CALLER)) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  return map(at, length, protection, flags, file, offset);
}

EXPORT ssize_t pread(int file, void* out, size_t bytes, off_t offset) {
  using Read = ssize_t (*)(int, void*, size_t, off_t);
  static const Read read = next<Read>("pread");
  if (fails(kRead, CALLER)) {
    errno = read_error;
    return -1;
  }
  return read(file, out, bytes, offset);
}

EXPORT int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
                          void* argument) {
  using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const Create create = next<Create>("pthread_create");
  if (fails(kThread, CALLER)) return EAGAIN;
  return create(thread, attributes, start, argument);
}

}  // extern "C"

namespace {

/// from(kind, call): from the call-th on, calls of this kind fail (0 memory, 1 reads, 2 thread starts).
napi_value from(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2];
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  int32_t kind = 0;
  int64_t call = 0;
  napi_get_value_int32(env, arguments[0], &kind);
  napi_get_value_int64(env, arguments[1], &call);
  if (addon.end == 0) dl_iterate_phdr(find_ranges, nullptr);
  seen[kind] = 0;
  left[kind] = call;
  return nullptr;
}

/// stop(): nothing fails any more. Returns { failed: whether something has, calls: of that kind since from() }.
napi_value stop(napi_env env, napi_callback_info) {
  bool failed = false;
  int64_t calls = 0;
  for (int kind = 0; kind < kKinds; ++kind) {
    failed |= left[kind].exchange(kNever) <= 0;
    calls += seen[kind].exchange(0);
  }
  napi_value result, value;
  napi_create_object(env, &result);
  napi_get_boolean(env, failed, &value);
  napi_set_named_property(env, result, "failed", value);
  napi_create_int64(env, calls, &value);
  napi_set_named_property(env, result, "calls", value);
  return result;
}

napi_value initialize(napi_env env, napi_value exports) {
  napi_value function;
  napi_create_function(env, "from", NAPI_AUTO_LENGTH, from, nullptr, &function);
  napi_set_named_property(env, exports, "from", function);
  napi_create_function(env, "stop", NAPI_AUTO_LENGTH, stop, nullptr, &function);
  napi_set_named_property(env, exports, "stop", function);
  return exports;
}

}  // namespace

NAPI_MODULE(failing, initialize)
