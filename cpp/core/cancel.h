// A flag that one thread sets and a computation reads between tasks.
#pragma once
#include <atomic>

#include "core/error.h"

namespace nd {

class CancelToken {
 public:
  void cancel() { flag_.store(true, std::memory_order_relaxed); }
  bool cancelled() const { return flag_.load(std::memory_order_relaxed); }
  void check() const {
    if (cancelled()) throw Cancelled{};
  }

 private:
  std::atomic<bool> flag_{false};
};

}  // namespace nd
