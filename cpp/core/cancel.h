// A flag that one thread sets and a computation reads between tasks.
#pragma once
#include <atomic>
#include <cstdint>
#include <limits>

#include "core/error.h"

namespace nd {

class CancelToken {
 public:
  void cancel() { left_.store(0, std::memory_order_relaxed); }
  bool cancelled() const {
    if (left_.load(std::memory_order_relaxed) == kNever) return false;
    // Below 0 it stays cancelled, however often it is asked.
    return left_.fetch_sub(1, std::memory_order_relaxed) <= 1;
  }
  void check() const {
    if (cancelled()) throw Cancelled{};
  }

  /// For tests, which must not depend on time: cancelled() becomes true at the `questions`th call from now (1
  /// or more).
  void cancel_at(int64_t questions) { left_.store(questions, std::memory_order_relaxed); }
  /// Calls of cancelled() until it is true.
  int64_t left() const { return left_.load(std::memory_order_relaxed); }

 private:
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
  mutable std::atomic<int64_t> left_{kNever};
};

}  // namespace nd
