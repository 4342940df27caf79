// Where large blocks of memory come from: the host, or the memory of a device.
#pragma once
#include <cstddef>
#include <cstdint>

namespace nd {

/// A place in the memory of some device. Arithmetic is all that is allowed here: only the backend that the
/// memory belongs to may turn it into a pointer, which need not mean anything to the CPU.
struct Address {
  uintptr_t value = 0;

  explicit operator bool() const { return value != 0; }
  Address operator+(size_t bytes) const { return {value + bytes}; }
  size_t operator-(Address other) const { return value - other.value; }
  bool operator==(Address other) const { return value == other.value; }
  bool operator!=(Address other) const { return value != other.value; }
};

class Memory {
 public:
  virtual ~Memory() = default;
  /// A block aligned to 64 bytes. Error out_of_memory.
  virtual Address allocate(size_t bytes) = 0;
  virtual void release(Address block, size_t bytes) noexcept = 0;
  /// Whether released blocks are handed out again, so that the same allocations usually get the same
  /// addresses.
  virtual bool reuses_blocks() const { return false; }
};

/// Anonymous pages, huge ones where the system offers them: freed blocks return to the system at once.
Memory& host_memory();

/// Returns the heap's free memory to the system: packing weights passes gigabytes through the heap in pieces.
void release_free_heap();

}  // namespace nd
