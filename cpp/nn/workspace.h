// A model's working memory: plans a forward, reserves what it needs, runs it.
#pragma once
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
    arena_.reserve(arena_.peak());
    if (!Profile::enabled()) return backend_.run(arena_, cancel, nullptr, forward);
    Profile profile;
    backend_.run(arena_, cancel, &profile, forward);
    Profile::add(profile);
  }
  /// Bytes that such a forward needs.
  template <class Forward>
  static size_t measure(Backend& backend, Forward&& forward) {
    Arena arena(backend.memory());
    arena.begin_measuring();
    backend.run(arena, nullptr, nullptr, forward);
    return arena.peak();
  }
  void trim() {
    arena_.free();
    backend_.trim();
  }
  /// Bytes that are held until the next trim().
  size_t bytes() const { return arena_.capacity(); }

 private:
  Backend& backend_;
  Arena arena_;
};

}  // namespace nd
