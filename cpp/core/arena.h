// Working memory of a forward pass. A forward is first run in measuring mode, where kernels are skipped and
// allocations only move offsets; that gives the peak for this shape. The real run repeats the same
// allocations, so it gets the same offsets inside one block that was allocated once.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>

#include "core/memory.h"

namespace nd {

class Arena {
 public:
  static constexpr size_t kAlignment = 64;  // one cache line, one AVX-512 vector

  explicit Arena(Memory& memory = host_memory()) : memory_(&memory) {}
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// Everything allocated is forgotten; allocations from now on only count. peak() starts at zero.
  void begin_measuring();
  /// Makes room for `bytes` and leaves measuring mode. Error out_of_memory.
  void reserve(size_t bytes);
  /// Releases the block. Nothing can be allocated until the next begin_measuring() or reserve().
  void free() noexcept;

  bool measuring() const { return measuring_; }
  size_t peak() const { return peak_; }
  /// The sum of all allocations since begin_measuring() or reserve().
  size_t allocated() const { return allocated_; }
  size_t capacity() const { return capacity_; }
  /// Of the block that is reserved; null without one.
  Address base() const { return base_; }

  /// Best fit among the gaps. In measuring mode nothing may be read or written at the address.
  Address allocate(size_t bytes);
  void release(Address address) noexcept;

 private:
  void reset();

  Memory* memory_;
  Address base_;
  size_t capacity_ = 0;
  size_t peak_ = 0;
  size_t allocated_ = 0;
  bool measuring_ = false;
  std::map<size_t, size_t> gaps_;  // offset → length, the last one open-ended
  std::map<size_t, size_t> used_;  // offset → length
};

/// Memory of an arena for as long as this object lives.
class ArenaBlock {
 public:
  ArenaBlock(Arena& arena, size_t bytes) : arena_(arena), address_(arena.allocate(bytes)) {}
  ~ArenaBlock() { arena_.release(address_); }
  ArenaBlock(const ArenaBlock&) = delete;
  ArenaBlock& operator=(const ArenaBlock&) = delete;
  Address address() const { return address_; }

 private:
  Arena& arena_;
  const Address address_;
};

}  // namespace nd
