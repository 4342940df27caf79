#include "core/arena.h"

#include <algorithm>
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
  allocated_ = count_ = 0;
  used_.clear();
  gaps_.clear();
  if (!planned_) gaps_[0] = kOpenEnd;
}

void Arena::begin_measuring() {
  measuring_ = true;
  planned_ = false;
  repeats_ = true;
  peak_ = moment_ = 0;
  measured_.clear();
  open_.clear();
  reset();
}

bool Arena::measured_before() const {
  return std::equal(measured_.begin(), measured_.end(), plan_.begin(), plan_.end(),
                    [](const Placement& a, const Placement& b) {
                      return a.bytes == b.bytes && a.begin == b.begin && a.end == b.end;
                    });
}

size_t Arena::plan() {
  if (!repeats_) return peak_;
  planned_ = true;
  if (measured_before()) return plan_bytes_;
  plan_ = measured_;
  plan_bytes_ = peak_;
  if (peak_ == least_bytes(plan_)) return peak_;
  std::vector<Placement> by_size = plan_;
  const size_t bytes = place_by_size(by_size);
  if (bytes < peak_) {
    plan_ = std::move(by_size);
    plan_bytes_ = bytes;
  }
  return plan_bytes_;
}

void Arena::reserve(size_t bytes) {
  measuring_ = false;
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

/// Takes the smallest gap with room for `bytes`; returns its offset.
size_t Arena::fit(size_t bytes) {
  auto best = gaps_.end();
  for (auto gap = gaps_.begin(); gap != gaps_.end(); ++gap)
    if (gap->second >= bytes && (best == gaps_.end() || gap->second < best->second)) best = gap;
  if (best == gaps_.end())
    throw Error(ErrorCode::out_of_memory, "Working memory of one forward exceeds the address space");
  const auto [offset, length] = *best;
  gaps_.erase(best);
  if (length > bytes) gaps_[offset + bytes] = length - bytes;
  peak_ = std::max(peak_, offset + bytes);
  return offset;
}

bool Arena::overlaps(size_t offset, size_t bytes) const {
  const auto next = used_.lower_bound(offset);
  if (next != used_.end() && next->first < offset + bytes) return true;
  return next != used_.begin() && std::prev(next)->first + std::prev(next)->second > offset;
}

// Numbers would be wrong without a word if a forward did something else than what was measured.
size_t Arena::next_planned(size_t bytes) const {
  if (count_ >= plan_.size() || plan_[count_].bytes < bytes || overlaps(plan_[count_].offset, bytes))
    throw Error(ErrorCode::out_of_memory,
                "Working memory was planned for another forward: a defect of the engine");
  return plan_[count_].offset;
}

Address Arena::allocate(size_t bytes) {
  bytes = round_up(bytes);
  const size_t offset = planned_ ? next_planned(bytes) : fit(bytes);
  used_[offset] = bytes;
  allocated_ += bytes;
  if (!measuring_) {
    if (offset + bytes > capacity_)
      throw Error(ErrorCode::out_of_memory, "Working memory was planned too small: a defect of the engine");
    ++count_;
    return base_ + offset;
  }
  if (repeats_) {
    measured_.push_back({bytes, moment_++, Placement::kNever, offset});
    open_[offset] = measured_.size() - 1;
  }
  return {kMeasuringBase + offset};
}

// Tensors release their memory in destructors, so nothing may be allocated here: the entry of what was in use
// becomes the entry of the gap.
void Arena::release(Address address) noexcept {
  const size_t offset = measuring_ ? address.value - kMeasuringBase : address - base_;
  const auto used = used_.find(offset);
  if (used == used_.end()) return;
  if (const auto open = open_.find(offset); measuring_ && open != open_.end()) {
    measured_[open->second].end = moment_++;
    open_.erase(open);
  }
  auto entry = used_.extract(used);
  if (planned_) return;
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
