#include "unet/prepared.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"

namespace nd {
namespace {

constexpr int64_t kAlignedFloats = 16;  // 64 bytes

int64_t aligned(int64_t floats) {
  return (floats + kAlignedFloats - 1) / kAlignedFloats * kAlignedFloats;
}

/// By bits: what is not a number is equal to itself here.
bool equal(const float* a, const float* b, int64_t count) {
  return std::memcmp(a, b, static_cast<size_t>(count) * sizeof(float)) == 0;
}

}  // namespace

const float* TimeTable::find(float timestep) const {
  for (const Row& row : rows_)
    if (equal(&row.timestep, &timestep, 1)) return row.shifts.data();
  return nullptr;
}

std::vector<float> TimeTable::missing(const float* timesteps, int64_t n) {
  const auto collect = [&] {
    std::vector<float> found;
    for (int64_t i = 0; i < n; ++i) {
      const auto same = [&](float other) { return equal(&other, timesteps + i, 1); };
      if (!find(timesteps[i]) && std::none_of(found.begin(), found.end(), same))
        found.push_back(timesteps[i]);
    }
    return found;
  };
  const std::vector<float> found = collect();
  if (static_cast<int64_t>(rows_.size() + found.size()) <= kMost) return found;
  clear();
  return collect();
}

size_t TimeTable::bytes() const {
  size_t floats = 0;
  for (const Row& row : rows_) floats += row.shifts.size();
  return floats * sizeof(float);
}

size_t TimeTable::bytes(int64_t n, int64_t floats) {
  return static_cast<size_t>(std::max(n, kMost) * floats) * sizeof(float);
}

float* ContextTable::Slot::packed(int64_t context_floats) const {
  return context + aligned(context_floats);
}

size_t ContextTable::bytes(int64_t n, int64_t context_floats, int64_t packed_floats) {
  return static_cast<size_t>(n * (aligned(context_floats) + aligned(packed_floats))) * sizeof(float);
}

void ContextTable::clear() {
  arena_.free();
  slots_.clear();
  images_.clear();
}

void ContextTable::make_room(int64_t count, int64_t context_floats, int64_t packed_floats) {
  const bool fits = context_floats == context_floats_ && packed_floats == packed_floats_;
  if (fits && count <= static_cast<int64_t>(slots_.size())) return;
  clear();
  const size_t each = bytes(1, context_floats, packed_floats);
  arena_.reserve(static_cast<size_t>(count) * each);
  for (int64_t i = 0; i < count; ++i) slots_.push_back({static_cast<float*>(arena_.allocate(each))});
  context_floats_ = context_floats;
  packed_floats_ = packed_floats;
}

ContextTable::Slot* ContextTable::find(const float* context) {
  for (Slot& slot : slots_)
    if (slot.filled && equal(slot.context, context, context_floats_)) return &slot;
  return nullptr;
}

/// A slot that this call does not use: one that was never filled, if there is one.
ContextTable::Slot& ContextTable::take() {
  Slot* best = nullptr;
  for (Slot& slot : slots_)
    if (!slot.used && (!best || (best->filled && !slot.filled))) best = &slot;
  if (!best) throw Error(ErrorCode::out_of_memory, "Too few contexts were planned: a defect of the engine");
  return *best;
}

std::vector<ContextTable::Fresh> ContextTable::place(const float* contexts, int64_t n, int64_t context_floats,
                                                     int64_t packed_floats) {
  std::vector<int64_t> first(static_cast<size_t>(n));  // image with the same context
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    int64_t j = 0;
    while (j < i && !equal(contexts + j * context_floats, contexts + i * context_floats, context_floats)) ++j;
    first[static_cast<size_t>(i)] = j;
    if (j == i) ++count;
  }
  make_room(count, context_floats, packed_floats);

  for (Slot& slot : slots_) slot.used = false;
  images_.assign(static_cast<size_t>(n), nullptr);
  const auto is_first = [&](int64_t i) { return first[static_cast<size_t>(i)] == i; };
  // Those that are known claim their slots before others are given away.
  for (int64_t i = 0; i < n; ++i) {
    Slot* slot = is_first(i) ? find(contexts + i * context_floats) : nullptr;
    if (!slot) continue;
    slot->used = true;
    images_[static_cast<size_t>(i)] = slot->packed(context_floats);
  }
  std::vector<Fresh> fresh;
  for (int64_t i = 0; i < n; ++i) {
    const float*& image = images_[static_cast<size_t>(i)];
    if (!is_first(i)) image = images_[static_cast<size_t>(first[static_cast<size_t>(i)])];
    if (image) continue;
    Slot& slot = take();
    slot.used = true;
    slot.filled = false;
    std::copy_n(contexts + i * context_floats, context_floats, slot.context);
    fresh.push_back({i, slot.packed(context_floats)});
    image = fresh.back().packed;
  }
  return fresh;
}

void ContextTable::settle() {
  for (Slot& slot : slots_) slot.filled = slot.filled || slot.used;
}

}  // namespace nd
