// The operators that libc++abi has as weak symbols. For those, macOS takes the first library of the process
// that has them, and that is not the addon: when an allocation fails, the other library's exception passes
// through the addon's frames, whose C++ library does not know it. These are not weak, so the addon calls
// them.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

void* operator new(size_t bytes) {
  if (void* block = malloc(bytes ? bytes : 1)) return block;
  throw std::bad_alloc();
}
void* operator new[](size_t bytes) {
  return operator new(bytes);
}
void* operator new(size_t bytes, std::align_val_t alignment) {
  const size_t unit = static_cast<size_t>(alignment);
  if (bytes > SIZE_MAX - unit) throw std::bad_alloc();
  if (void* block = aligned_alloc(unit, (bytes ? bytes + unit - 1 : unit) / unit * unit)) return block;
  throw std::bad_alloc();
}
void* operator new[](size_t bytes, std::align_val_t alignment) {
  return operator new(bytes, alignment);
}

void operator delete(void* block) noexcept {
  free(block);
}
void operator delete[](void* block) noexcept {
  free(block);
}
void operator delete(void* block, size_t) noexcept {
  free(block);
}
void operator delete[](void* block, size_t) noexcept {
  free(block);
}
void operator delete(void* block, std::align_val_t) noexcept {
  free(block);
}
void operator delete[](void* block, std::align_val_t) noexcept {
  free(block);
}
void operator delete(void* block, size_t, std::align_val_t) noexcept {
  free(block);
}
void operator delete[](void* block, size_t, std::align_val_t) noexcept {
  free(block);
}
