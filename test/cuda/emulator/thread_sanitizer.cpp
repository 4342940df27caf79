// The calls that g++ writes before every access with -fsanitize=thread, answered here instead of by libtsan.
#include "checker.h"

extern "C" char __executable_start, _end;

namespace emu {
namespace {

/// Tables of constants lie in the program itself.
bool in_program(const void* p) {
  return p >= &__executable_start && p < &_end;
}

void access(const void* p, size_t bytes, Access kind, const void* from, bool aligned) {
  if (!watched(p) || (kind == Access::read && in_program(p))) return;
  const Here here{static_cast<const char*>(from), kReturnAddress};
  if (aligned && reinterpret_cast<uintptr_t>(p) % bytes) return tell("unaligned access", here);
  check(p, bytes, kind, here);
}

}  // namespace
}  // namespace emu

#define FROM __builtin_return_address(0)
#define SIZE(n)                                         \
  void __tsan_read##n(void* p) {                        \
    emu::access(p, n, emu::Access::read, FROM, true);   \
  }                                                     \
  void __tsan_write##n(void* p) {                       \
    emu::access(p, n, emu::Access::write, FROM, true);  \
  }                                                     \
  void __tsan_unaligned_read##n(void* p) {              \
    emu::access(p, n, emu::Access::read, FROM, false);  \
  }                                                     \
  void __tsan_unaligned_write##n(void* p) {             \
    emu::access(p, n, emu::Access::write, FROM, false); \
  }
#define ATOMIC(bits, T)                                                                     \
  T __tsan_atomic##bits##_load(const volatile T* p, int) {                                  \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                            \
  }                                                                                         \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile T* p, T* e, T v, int, int) {     \
    return __atomic_compare_exchange_n(p, e, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }                                                                                         \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile T* p, T* e, T v, int, int) {   \
    return __atomic_compare_exchange_n(p, e, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }                                                                                         \
  T __tsan_atomic##bits##_compare_exchange_val(volatile T* p, T e, T v, int, int) {         \
    __atomic_compare_exchange_n(p, &e, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);       \
    return e;                                                                               \
  }

extern "C" {
void __tsan_init() {
  emu::checking = true;
}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
SIZE(1)
SIZE(2)
SIZE(4)
SIZE(8)
SIZE(16)
void __tsan_read_range(void* p, unsigned long n) {
  emu::access(p, n, emu::Access::read, FROM, false);
}
void __tsan_write_range(void* p, unsigned long n) {
  emu::access(p, n, emu::Access::write, FROM, false);
}
ATOMIC(32, unsigned)
ATOMIC(64, unsigned long)
void __tsan_atomic_thread_fence(int) {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
}
