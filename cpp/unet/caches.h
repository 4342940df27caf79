// Caches of values that do not change between steps: the shifts of each timestep for the residual blocks, and
// the keys and values of each context. Both are looked up by content, so the order of calls and their
// batches do not matter.
#pragma once
#include <cstdint>
#include <vector>

#include "core/arena.h"

namespace nd {

/// Timestep → the concatenated shifts of all residual blocks, on the host, as elements of the device's
/// tensors.
///
/// The key of an entry is everything that the shifts depend on besides the model's weights: `key_floats`
/// numbers, see TimestepKeys. All entries have keys of one length, that of the latest call. clear() when the
/// weights change.
class TimestepCache {
 public:
  /// Entries that are kept, unless one call has more: a schedule's timesteps, at 80 KB each for SD 1.5 in
  /// float32, half of that on a GPU.
  static constexpr int64_t kMaxEntries = 64;

  /// The keys among [n][key_floats] that are not cached yet, without duplicates. Evicts all other entries if
  /// there is no room.
  std::vector<float> missing(const float* keys, int64_t n, int64_t key_floats);
  /// Keys as long as those of the latest call of missing(). Null if the key is not cached.
  void add(const float* key, std::vector<uint8_t> shifts);
  const uint8_t* find(const float* key) const;
  void clear() { entries_ = {}; }

  /// Bytes of the entries, and the maximum after calls with up to n keys.
  size_t bytes() const;
  static size_t bytes(int64_t n, int64_t key_floats, size_t shift_bytes);

 private:
  struct Entry {
    std::vector<float> key;
    std::vector<uint8_t> shifts;
  };
  int64_t key_floats_ = 1;
  std::vector<Entry> entries_;
};

/// Context of one image → keys and values of all cross-attentions, in the device's memory. Images with equal
/// contexts share them. Holds what the latest call needs, and earlier entries as far as there is room: no
/// more than the largest call needs. clear() when the weights change.
class ContextCache {
 public:
  explicit ContextCache(Memory& memory) : arena_(memory) {}

  struct Fresh {
    int64_t image = 0;
    Address packed;
  };

  /// Finds a place for each image's context, [n][context_floats], with packed_bytes for its keys and values.
  /// Returns those to be filled, after which settle() must be called. Error out_of_memory.
  std::vector<Fresh> place(const float* contexts, int64_t n, int64_t context_floats, size_t packed_bytes);
  void settle();
  /// Keys and values of each image of the latest call.
  const Address* images() const { return images_.data(); }
  void clear();

  /// Bytes that it holds, and that it needs for n different contexts.
  size_t bytes() const;
  static size_t bytes(int64_t n, int64_t context_floats, size_t packed_bytes);

 private:
  struct Slot {
    std::vector<float> context;
    Address packed;
    bool filled = false, used = false;
  };
  void make_room(int64_t count, int64_t context_floats, size_t packed_bytes);
  Slot* find(const float* context);
  Slot& take();

  Arena arena_;
  int64_t context_floats_ = 0;
  size_t packed_bytes_ = 0;
  std::vector<Slot> slots_;
  std::vector<Address> images_;
};

}  // namespace nd
