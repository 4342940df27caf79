// Blocks of working memory that nobody uses, kept for the next allocation of their size. The driver takes
// longer to allocate and release memory than to run many kernels. And whoever makes the same allocations
// again gets the same addresses, so that what was recorded there can be repeated, see Workspace.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "core/memory.h"

namespace nd::cuda {

class SpareBlocks {
 public:
  /// Blocks of this size that came before so many others are no longer wanted: that many are put in some ten
  /// pictures.
  static constexpr uint64_t kMaxAge = 256;

  /// Keeps at most so many bytes from now on: none without a call.
  void limit(size_t bytes) { most_ = bytes; }
  bool keeps() const { return most_ > 0; }
  /// Of all blocks.
  size_t bytes() const;

  /// The block of exactly this size at the lowest address; null where there is none.
  Address take(size_t bytes);
  /// Keeps a block. Those returned are to be released: old ones, then the largest, which may be this one.
  std::vector<Address> put(Address block, size_t bytes);
  /// One of any size, to be released; null where there is none.
  Address take_any();

 private:
  using Place = std::pair<size_t, uintptr_t>;  // bytes and address
  using Entry = std::map<Place, uint64_t>::iterator;

  Address remove(Entry entry);

  mutable std::mutex mutex_;
  std::atomic<size_t> most_{0};
  size_t bytes_ = 0;
  uint64_t puts_ = 0;
  std::map<Place, uint64_t> blocks_;  // → the value of puts_ when it was put
};

}  // namespace nd::cuda
