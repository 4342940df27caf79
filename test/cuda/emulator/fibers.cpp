#include "fibers.h"

#include <cstdint>

namespace emu {

#if defined(__x86_64__)

// Registers that a call preserves (System V ABI); all others are saved by the caller already.
asm(R"(
.globl emu_switch
.type emu_switch,@function
emu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emu_switch,.-emu_switch
)");

void* new_stack(void* top, void (*body)()) {
  constexpr int kSaved = 6;
  void** sp = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t{15});
  *--sp = nullptr;  // at entry the pointer is 8 off a multiple of 16, as after a call
  *--sp = reinterpret_cast<void*>(body);
  for (int i = 0; i < kSaved; ++i) *--sp = nullptr;
  return sp;
}

#else
#error "The emulator's fibers are written for x86-64"
#endif

}  // namespace emu
