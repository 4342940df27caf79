// Working memory of a forward pass. A forward is first run in measuring mode, where kernels are skipped and
// allocations only move offsets: that tells how large each one is and for how long it is used. The real run
// repeats the same allocations, inside one block that was allocated once, at offsets that were chosen when
// all of them were known.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "core/memory.h"
#include "core/placement.h"

namespace nd {

class Arena {
  friend class ArenaLoop;

 public:
  static constexpr size_t kAlignment = 64;  // one cache line, one AVX-512 vector

  explicit Arena(Memory& memory = host_memory()) : memory_(&memory) {}
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// Everything allocated is forgotten; allocations from now on only count.
  void begin_measuring();
  /// While measuring: the real run's allocations will not be these, but will need as much. They are placed as
  /// they come.
  void repeat_differently() {
    repeats_ = false;
    measured_.clear();
    open_.clear();
  }
  /// Chooses where everything that has been allocated since begin_measuring() will lie; returns the bytes
  /// that it needs.
  size_t plan();
  /// Makes room for `bytes` and leaves measuring mode. Error out_of_memory.
  void reserve(size_t bytes);
  /// Releases the block. Nothing can be allocated until the next begin_measuring() or reserve().
  void free() noexcept;

  bool measuring() const { return measuring_; }
  /// The sum of all allocations since begin_measuring() or reserve().
  size_t allocated() const { return allocated_; }
  size_t capacity() const { return capacity_; }
  /// Of the block that is reserved; null without one.
  Address base() const { return base_; }

  /// The next of the planned allocations, or, where nothing was planned, the best fit among the gaps. In
  /// measuring mode nothing may be read or written at the address.
  Address allocate(size_t bytes);
  void release(Address address) noexcept;

 private:
  void reset();
  size_t fit(size_t bytes);
  size_t next_planned(size_t bytes) const;
  bool overlaps(size_t offset, size_t bytes) const;
  bool measured_before() const;

  Memory* memory_;
  Address base_;
  size_t capacity_ = 0;
  size_t allocated_ = 0;
  size_t count_ = 0;  // of allocations when not measuring: the index of the next one in plan_
  bool measuring_ = false;
  std::map<size_t, size_t> gaps_;  // offset → length, the last one open-ended; none where all is planned
  std::map<size_t, size_t> used_;  // offset → length

  bool repeats_ = true;
  size_t peak_ = 0;    // of what is placed as it comes
  size_t moment_ = 0;  // one for each allocation and release
  std::vector<Placement> measured_;
  std::map<size_t, size_t> open_;  // offset → index of what is measured

  // The last plan. It serves again where the same is measured.
  std::vector<Placement> plan_;
  size_t plan_bytes_ = 0;
  bool planned_ = false;
};

/// The rounds of a loop that allocate and release the same, or less, each time: one of them is measured, and
/// all of them run in its place.
class ArenaLoop {
 public:
  explicit ArenaLoop(Arena& arena) : arena_(arena), begin_(arena.count_) {}
  /// Before each round.
  void begin_round() { arena_.count_ = begin_; }

 private:
  Arena& arena_;
  const size_t begin_;
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
