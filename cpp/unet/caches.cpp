#include "unet/caches.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace nd {
namespace {

size_t aligned(size_t bytes) {
  return (bytes + Arena::kAlignment - 1) / Arena::kAlignment * Arena::kAlignment;
}

/// By bits: here NaN is equal to itself.
bool equal(const float* a, const float* b, int64_t count) {
  return std::memcmp(a, b, static_cast<size_t>(count) * sizeof(float)) == 0;
}

}  // namespace

const uint8_t* TimestepCache::find(const float* key) const {
  for (const Entry& entry : entries_)
    if (equal(entry.key.data(), key, key_floats_)) return entry.shifts.data();
  return nullptr;
}

void TimestepCache::add(const float* key, std::vector<uint8_t> shifts) {
  entries_.push_back({std::vector<float>(key, key + key_floats_), std::move(shifts)});
}

std::vector<float> TimestepCache::missing(const float* keys, int64_t n, int64_t key_floats) {
  if (key_floats != key_floats_) clear();
  key_floats_ = key_floats;
  const auto collect = [&] {
    std::vector<float> found;
    for (int64_t i = 0; i < n; ++i) {
      const float* key = keys + i * key_floats_;
      bool known = find(key) != nullptr;
      for (size_t j = 0; j < found.size() && !known; j += static_cast<size_t>(key_floats_))
        known = equal(found.data() + j, key, key_floats_);
      if (!known) found.insert(found.end(), key, key + key_floats_);
    }
    return found;
  };
  std::vector<float> found = collect();
  if (static_cast<int64_t>(entries_.size()) + static_cast<int64_t>(found.size()) / key_floats_ <= kMaxEntries)
    return found;
  clear();
  return collect();
}

size_t TimestepCache::bytes() const {
  size_t sum = 0;
  for (const Entry& entry : entries_) sum += entry.key.size() * sizeof(float) + entry.shifts.size();
  return sum;
}

size_t TimestepCache::bytes(int64_t n, int64_t key_floats, size_t shift_bytes) {
  return static_cast<size_t>(std::max(n, kMaxEntries)) *
         (static_cast<size_t>(key_floats) * sizeof(float) + shift_bytes);
}

size_t ContextCache::bytes(int64_t n, int64_t context_floats, size_t packed_bytes) {
  return static_cast<size_t>(n) *
         (static_cast<size_t>(context_floats) * sizeof(float) + aligned(packed_bytes));
}

size_t ContextCache::bytes() const {
  return arena_.capacity() + slots_.size() * static_cast<size_t>(context_floats_) * sizeof(float);
}

void ContextCache::clear() {
  arena_.free();
  slots_.clear();
  images_.clear();
}

void ContextCache::make_room(int64_t count, int64_t context_floats, size_t packed_bytes) {
  const bool fits = context_floats == context_floats_ && packed_bytes == packed_bytes_;
  if (fits && count <= static_cast<int64_t>(slots_.size())) return;
  clear();
  arena_.reserve(static_cast<size_t>(count) * aligned(packed_bytes));
  for (int64_t i = 0; i < count; ++i)
    slots_.push_back(
        {std::vector<float>(static_cast<size_t>(context_floats)), arena_.allocate(packed_bytes)});
  context_floats_ = context_floats;
  packed_bytes_ = packed_bytes;
}

ContextCache::Slot* ContextCache::find(const float* context) {
  for (Slot& slot : slots_)
    if (slot.filled && equal(slot.context.data(), context, context_floats_)) return &slot;
  return nullptr;
}

/// A slot that this call does not use: one that was never filled, if there is one.
ContextCache::Slot& ContextCache::take() {
  Slot* best = nullptr;
  for (Slot& slot : slots_)
    if (!slot.used && (!best || (best->filled && !slot.filled))) best = &slot;
  if (!best) throw Error(ErrorCode::out_of_memory, "Too few contexts were planned: a defect of the engine");
  return *best;
}

std::vector<ContextCache::Fresh> ContextCache::place(const float* contexts, int64_t n, int64_t context_floats,
                                                     size_t packed_bytes) {
  std::vector<int64_t> first(static_cast<size_t>(n));  // image with the same context
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    int64_t j = 0;
    while (j < i && !equal(contexts + j * context_floats, contexts + i * context_floats, context_floats)) ++j;
    first[static_cast<size_t>(i)] = j;
    if (j == i) ++count;
  }
  make_room(count, context_floats, packed_bytes);

  for (Slot& slot : slots_) slot.used = false;
  images_.assign(static_cast<size_t>(n), Address{});
  const auto is_first = [&](int64_t i) { return first[static_cast<size_t>(i)] == i; };
  // Those that are known claim their slots before others are reused.
  for (int64_t i = 0; i < n; ++i) {
    Slot* slot = is_first(i) ? find(contexts + i * context_floats) : nullptr;
    if (!slot) continue;
    slot->used = true;
    images_[static_cast<size_t>(i)] = slot->packed;
  }
  std::vector<Fresh> fresh;
  for (int64_t i = 0; i < n; ++i) {
    Address& image = images_[static_cast<size_t>(i)];
    if (!is_first(i)) image = images_[static_cast<size_t>(first[static_cast<size_t>(i)])];
    if (image) continue;
    Slot& slot = take();
    slot.used = true;
    slot.filled = false;
    std::copy_n(contexts + i * context_floats, context_floats, slot.context.data());
    fresh.push_back({i, slot.packed});
    image = slot.packed;
  }
  return fresh;
}

void ContextCache::settle() {
  for (Slot& slot : slots_) slot.filled = slot.filled || slot.used;
}

}  // namespace nd
