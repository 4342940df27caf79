// ND_ASSERT(condition): a kernel's preconditions, checked in builds without NDEBUG.
#pragma once

namespace nd::cpu {

/// Prints the failed condition and where it stands, then aborts. Defined in a baseline translation unit:
/// sources of one instruction set must not pull in inline code of the standard library (see simd/README.md).
[[noreturn]] void assertion_failed(const char* condition, const char* file, int line);

}  // namespace nd::cpu

#ifdef NDEBUG
#define ND_ASSERT(condition) static_cast<void>(sizeof((condition) ? 1 : 0))
#else
#define ND_ASSERT(condition) \
  ((condition) ? static_cast<void>(0) : nd::cpu::assertion_failed(#condition, __FILE__, __LINE__))
#endif
