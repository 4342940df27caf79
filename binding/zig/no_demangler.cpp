// In place of libc++abi's demangler, a tenth of a statically linked addon: std::terminate() writes the name
// of the type of an exception that nothing caught, and then writes it as it is mangled. Nothing else
// demangles.
#include <cstddef>

// NOLINTNEXTLINE(bugprone-reserved-identifier)
extern "C" char* __cxa_demangle(const char*, char*, size_t*, int* status) {
  constexpr int kInvalidName = -2;
  if (status) *status = kInvalidName;
  return nullptr;
}
