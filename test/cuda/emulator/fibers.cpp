#include "fibers.h"

#include <cstdint>

namespace emu {

#if defined(__x86_64__)

// Registers that a call preserves (System V ABI); all others are saved by the caller already. It jumps back:
// processors predict that `ret` goes where the last call came from, which here is another stack.
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
  popq %rcx
  jmpq *%rcx
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

#elif defined(__aarch64__)

// Registers that a call preserves (AAPCS64): x19 to x30 and the lower halves of v8 to v15.
asm(R"(
.globl emu_switch
.type emu_switch,%function
emu_switch:
  sub sp, sp, #160
  stp x19, x20, [sp]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size emu_switch,.-emu_switch
)");

void* new_stack(void* top, void (*body)()) {
  constexpr int kSaved = 20, kReturnAddress = 11;  // x30, to which emu_switch returns
  void** sp = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t{15}) - kSaved;
  for (int i = 0; i < kSaved; ++i) sp[i] = nullptr;
  sp[kReturnAddress] = reinterpret_cast<void*>(body);
  return sp;
}

#else
#error "The emulator's fibers are written for x86-64 and 64-bit Arm"
#endif

}  // namespace emu
