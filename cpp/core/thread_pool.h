// One persistent set of worker threads for the process. The caller takes part in its own work, so a pool of n
// threads keeps n−1 workers, parked when idle.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "core/cancel.h"

namespace nd {

class ThreadPool {
 public:
  /// The process's pool. First use creates it with one thread per physical core (of those this process may
  /// run on).
  static ThreadPool& shared();

  /// With fewer threads where the system does not start as many.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  /// Threads that compute the next parallel_for. Never waits.
  int threads() const;
  /// Changes the number of threads (1…256) from the next parallel_for on. Never waits. Where the system does
  /// not start as many, the pool works with fewer.
  void resize(int threads);

  /// Calls task(index, thread) for every index in [0, count), thread in [0, threads()). Blocks until all are
  /// done. A task's first exception is rethrown here; after it, or once `cancel` is set, no further task
  /// begins (Cancelled is thrown). Several callers may come at once: they take turns, one parallel_for each.
  void parallel_for(int64_t count, const CancelToken* cancel, const std::function<void(int64_t, int)>& task);

  /// Frees the memory that thread_scratch() gave to tasks. Waits for a parallel_for that is running.
  void free_scratch();
  /// Bytes of that memory. Waits, too.
  size_t scratch_bytes() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Memory of the calling thread for at least `floats` floats, 64-byte aligned, valid until its next call with
/// the same slot, at most until the end of the task. It grows as needed and is kept until the pool's
/// free_scratch(). Tasks use it for what must not lie in the arena, whose size must not depend on the number
/// of threads. Each slot has memory of its own, for callers that call others meanwhile.
float* thread_scratch(size_t floats, int slot = 0);
constexpr int kPanelSlot = 1;  // a panel of weights that was expanded
constexpr int kScratchSlots = 2;

}  // namespace nd
