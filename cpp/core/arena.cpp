#include "core/arena.h"

#include <iterator>
#include <limits>
#include <string>
#include <utility>

#include "core/error.h"

namespace nd {

namespace {
// In measuring mode addresses are offsets from here, so that none is null.
constexpr uintptr_t kMeasuringBase = 1u << 20;
constexpr size_t kOpenEnd = std::numeric_limits<size_t>::max() / 2;

size_t round_up(size_t bytes) {
  if (bytes == 0) bytes = 1;
  return (bytes + Arena::kAlignment - 1) / Arena::kAlignment * Arena::kAlignment;
}
}  // namespace

Arena::~Arena() {
  free();
}

void Arena::reset() {
  used_.clear();
  gaps_.clear();
  gaps_[0] = kOpenEnd;
}

void Arena::begin_measuring() {
  measuring_ = true;
  peak_ = 0;
  allocated_ = 0;
  reset();
}

void Arena::reserve(size_t bytes) {
  measuring_ = false;
  allocated_ = 0;
  reset();
  bytes = round_up(bytes);
  if (bytes <= capacity_) return;
  free();
  base_ = memory_->allocate(bytes);
  capacity_ = bytes;
  reset();
}

void Arena::free() noexcept {
  if (base_) memory_->release(base_, capacity_);
  base_ = {};
  capacity_ = 0;
  used_.clear();
  gaps_.clear();
}

Address Arena::allocate(size_t bytes) {
  bytes = round_up(bytes);
  auto best = gaps_.end();
  for (auto gap = gaps_.begin(); gap != gaps_.end(); ++gap)
    if (gap->second >= bytes && (best == gaps_.end() || gap->second < best->second)) best = gap;
  if (best == gaps_.end())
    throw Error(ErrorCode::out_of_memory, "Working memory of one forward exceeds the address space");
  const size_t offset = best->first, length = best->second;
  gaps_.erase(best);
  if (length > bytes) gaps_[offset + bytes] = length - bytes;
  used_[offset] = bytes;
  allocated_ += bytes;
  if (offset + bytes > peak_) peak_ = offset + bytes;
  if (measuring_) return {kMeasuringBase + offset};
  if (offset + bytes > capacity_)
    throw Error(ErrorCode::out_of_memory, "Working memory was planned too small: a defect of the engine");
  return base_ + offset;
}

// Tensors release their memory in destructors, so nothing may be allocated here: the entry of what was in use
// becomes the entry of the gap.
void Arena::release(Address address) noexcept {
  const size_t offset = measuring_ ? address.value - kMeasuringBase : address - base_;
  const auto used = used_.find(offset);
  if (used == used_.end()) return;
  auto entry = used_.extract(used);
  const auto next = gaps_.lower_bound(offset);
  if (next != gaps_.end() && next->first == offset + entry.mapped()) {
    entry.mapped() += next->second;
    gaps_.erase(next);
  }
  const auto after = gaps_.lower_bound(offset);
  if (after != gaps_.begin()) {
    const auto previous = std::prev(after);
    if (previous->first + previous->second == offset) {
      previous->second += entry.mapped();
      return;
    }
  }
  gaps_.insert(std::move(entry));
}

}  // namespace nd
