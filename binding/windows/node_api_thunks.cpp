// The functions of Node-API on Windows, where a library names the program that its imports come from. They
// are looked up when the addon is loaded: in node.exe, electron.exe or whatever the host's name is, or in the
// host's node.dll. No import library and no hook for delayed loading is needed.
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

// A function that jumps to the address in nd_at_<name>, whatever its arguments are.
#if defined(__x86_64__)
#define ND_JUMP(name) ".globl " name "\n" name ": jmpq *nd_at_" name "(%rip)\n"
#elif defined(__aarch64__)
#define ND_JUMP(name) \
  ".globl " name "\n" name ": adrp x16, nd_at_" name "\nldr x16, [x16, :lo12:nd_at_" name "]\nbr x16\n"
#else
#error "Windows on x86-64 or 64-bit Arm"
#endif

#define ND_NODE_API(name)          \
  extern "C" FARPROC nd_at_##name; \
  FARPROC nd_at_##name;            \
  asm(".text\n" ND_JUMP(#name));
#include ND_NODE_API_NAMES
#undef ND_NODE_API

namespace {

// A function that the host is too old to have stays null; Node-API of version 8 is there since Node.js 12.
bool find_functions() {
  HMODULE host = GetModuleHandleW(L"node.dll");
  if (!host) host = GetModuleHandleW(nullptr);
#define ND_NODE_API(name) nd_at_##name = GetProcAddress(host, #name);
#include ND_NODE_API_NAMES
#undef ND_NODE_API
  return true;
}

// When the library is loaded, before Node calls its entry point.
[[maybe_unused]] const bool found = find_functions();

}  // namespace
