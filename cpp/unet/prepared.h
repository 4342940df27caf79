// What does not change from step to step, computed once: what each timestep adds to the residual blocks, and
// the keys and values of each context. Both are found again by content, so it does not matter who calls, in
// which order or in which batches.
#pragma once
#include <cstdint>
#include <vector>

#include "core/arena.h"

namespace nd {

/// Timestep → the shifts of all residual blocks, one after the other.
class TimeTable {
 public:
  /// Timesteps that are kept, unless one call has more: a schedule's, at 80 KB each for Stable Diffusion.
  static constexpr int64_t kMost = 64;

  /// Those of the timesteps [n] that are not known yet, each once. Forgets all others where there is no room.
  std::vector<float> missing(const float* timesteps, int64_t n);
  void add(float timestep, std::vector<float> shifts) { rows_.push_back({timestep, std::move(shifts)}); }
  /// Null where it is not known.
  const float* find(float timestep) const;
  void clear() { rows_ = {}; }

  /// Bytes of the shifts that it holds, and the most that calls with up to n timesteps can make it hold.
  size_t bytes() const;
  static size_t bytes(int64_t n, int64_t floats);

 private:
  struct Row {
    float timestep;
    std::vector<float> shifts;
  };
  std::vector<Row> rows_;
};

/// Context of one image → keys and values of all cross-attentions. Images with equal contexts share them.
/// Holds what the latest call needs, and earlier ones as far as there is room: no more than the largest call
/// needs.
class ContextTable {
 public:
  struct Fresh {
    int64_t image;
    float* packed;
  };

  /// Finds a place for each image's context, [n][context_floats], with packed_floats for its keys and values.
  /// Returns those to be filled, after which settle() must be called. Error out_of_memory.
  std::vector<Fresh> place(const float* contexts, int64_t n, int64_t context_floats, int64_t packed_floats);
  void settle();
  /// Keys and values of each image of the latest call.
  const float* const* images() const { return images_.data(); }
  void clear();

  /// Bytes that it holds, and that it needs for n different contexts.
  size_t bytes() const { return arena_.capacity(); }
  static size_t bytes(int64_t n, int64_t context_floats, int64_t packed_floats);

 private:
  struct Slot {
    float* context;
    bool filled = false, used = false;
    float* packed(int64_t context_floats) const;
  };
  void make_room(int64_t count, int64_t context_floats, int64_t packed_floats);
  Slot* find(const float* context);
  Slot& take();

  Arena arena_;
  int64_t context_floats_ = 0, packed_floats_ = 0;
  std::vector<Slot> slots_;
  std::vector<const float*> images_;
};

}  // namespace nd
