// A model's working memory: plans a forward, reserves what it needs, runs it.
#pragma once
#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "core/error.h"
#include "nn/backend.h"

namespace nd {

class Workspace {
 public:
  explicit Workspace(Backend& backend) : backend_(backend), arena_(backend.memory()) {}

  /// forward(ForwardContext&) is called twice: measuring, then computing.
  template <class Forward>
  void run(const CancelToken* cancel, Forward&& forward) {
    arena_.begin_measuring();
    backend_.run(arena_, cancel, nullptr, forward);
    arena_.reserve(arena_.plan());
    if (!Profile::enabled()) return backend_.run(arena_, cancel, nullptr, forward);
    Profile profile;
    backend_.run(arena_, cancel, &profile, forward);
    profile.count_bytes(static_cast<double>(arena_.allocated()));
    Profile::add(profile);
  }
  /// The same for a forward that may have been run before: key() gives everything that its kernels and their
  /// arguments depend on, addresses on the host included, besides the numbers that it puts. It may differ
  /// afterwards, by memory that the forward has allocated for what it keeps. `resident`: the tensors that it
  /// reads, or null.
  template <class Key, class Forward>
  void run_repeated(const Key& key, const CancelToken* cancel, ResidentTensors* resident, Forward&& forward) {
    if (Profile::enabled()) return run(cancel, forward);
    try {
      if (Recording* known = find(key())) return known->replay(cancel, resident);
      arena_.begin_measuring();
      backend_.run(arena_, cancel, nullptr, forward);
      const size_t bytes = arena_.plan();
      arena_.reserve(bytes);
      std::unique_ptr<Recording> recording = backend_.record(arena_, cancel, forward);
      if (recording) remember({key(), arena_.base(), bytes, std::move(recording)});
    } catch (const Error&) {
      recorded_.clear();  // they take memory, which may be what was missing
      throw;
    }
  }
  /// Bytes that such a forward needs.
  template <class Forward>
  static size_t measure(Backend& backend, Forward&& forward) {
    Arena arena(backend.memory());
    arena.begin_measuring();
    Profile* counted = Profile::counted();
    backend.run(arena, nullptr, counted, forward);
    if (counted) counted->count_bytes(static_cast<double>(arena.allocated()));
    return arena.plan();
  }
  /// Frees the arena's memory; and recordings, unless the next forward may get the same block.
  void trim() {
    if (!backend_.memory().reuses_blocks()) recorded_.clear();
    arena_.free();
    backend_.trim();
  }
  /// Bytes that are held until the next trim(), recordings excepted.
  size_t bytes() const { return arena_.capacity(); }

 private:
  /// Guided and unguided steps, at two depths.
  static constexpr size_t kMaxRecorded = 4;
  struct Recorded {
    std::vector<uint64_t> key;
    Address base;      // of the arena's block
    size_t bytes = 0;  // that it needs there
    std::unique_ptr<Recording> recording;
  };
  std::vector<Recorded>::iterator with_key(const std::vector<uint64_t>& key) {
    return std::find_if(recorded_.begin(), recorded_.end(),
                        [&](const Recorded& known) { return known.key == key; });
  }
  /// What was recorded with this key in the block that the arena has, or, after trim(), gets; null if there
  /// is nothing. What was recorded in another block cannot be repeated.
  Recording* find(const std::vector<uint64_t>& key) {
    const auto found = with_key(key);
    if (found == recorded_.end()) return nullptr;
    arena_.reserve(found->bytes);
    if (arena_.base() != found->base) {
      recorded_.erase(found);
      return nullptr;
    }
    std::rotate(found, found + 1, recorded_.end());
    return recorded_.back().recording.get();
  }

  /// In place of one with the same key: where a forward allocates what its key has the address of, the key
  /// is known only afterwards.
  void remember(Recorded recorded) {
    const auto same = with_key(recorded.key);
    if (same != recorded_.end())
      recorded_.erase(same);
    else if (recorded_.size() == kMaxRecorded)
      recorded_.erase(recorded_.begin());
    recorded_.push_back(std::move(recorded));
  }

  Backend& backend_;
  Arena arena_;
  std::vector<Recorded> recorded_;  // the latest last
};

}  // namespace nd
