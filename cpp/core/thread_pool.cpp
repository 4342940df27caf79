#include "core/thread_pool.h"

#include <array>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "core/cpu_count.h"

namespace nd {

namespace {
// A worker that found no work spins this often before it parks: consecutive layers follow each other within
// microseconds, a futex wake-up costs about fifty. Where threads share a CPU they park at once, because a
// spinning one keeps another from its work.
constexpr int kSpins = 4000;

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

struct Scratch {
  std::array<std::vector<float>, kScratchSlots> slots;
};
// Where the thread's scratch memory is while it runs tasks of a pool.
thread_local Scratch* current_scratch = nullptr;

/// Lends scratch memory to the calling thread.
class ScratchLoan {
 public:
  explicit ScratchLoan(Scratch& scratch) : before_(std::exchange(current_scratch, &scratch)) {}
  ~ScratchLoan() { current_scratch = before_; }
  ScratchLoan(const ScratchLoan&) = delete;
  ScratchLoan& operator=(const ScratchLoan&) = delete;

 private:
  Scratch* const before_;
};

}  // namespace

float* thread_scratch(size_t floats, int slot) {
  static thread_local Scratch outside_of_tasks;
  std::vector<float>& memory =
      (current_scratch ? current_scratch : &outside_of_tasks)->slots[static_cast<size_t>(slot)];
  constexpr size_t kSlack = 16;  // floats in 64 bytes
  if (memory.size() < floats + kSlack) {
    memory = {};
    memory.resize(floats + kSlack);
  }
  const uintptr_t address = reinterpret_cast<uintptr_t>(memory.data());
  return memory.data() + (64 - address % 64) % 64 / sizeof(float);
}

struct ThreadPool::State {
  std::mutex turn;  // held by the caller whose work is running

  std::mutex mutex;
  std::condition_variable wake, finished;
  std::vector<std::thread> workers;
  std::vector<Scratch> scratch{1};  // of each thread; it belongs to the pool so that any thread can free it
  std::atomic<int> wanted{1};       // threads, from the next parallel_for on
  std::atomic<uint64_t> generation{0};
  bool stopping = false;
  int spins = 0;

  // The work of the current generation. Workers may take part while it is open; those that come later have
  // nothing to do, and nobody waits for them.
  bool open = false;
  int taking_part = 0;  // workers
  const std::function<void(int64_t, int)>* task = nullptr;
  const CancelToken* cancel = nullptr;
  int64_t count = 0;
  std::atomic<int64_t> next{0};
  std::atomic<bool> stop{false};
  std::exception_ptr error;

  void run_tasks(int thread) {
    const ScratchLoan loan(scratch[static_cast<size_t>(thread)]);
    for (;;) {
      if (stop.load(std::memory_order_relaxed)) return;
      if (cancel && cancel->cancelled()) return;
      const int64_t index = next.fetch_add(1, std::memory_order_relaxed);
      if (index >= count) return;
      try {
        (*task)(index, thread);
      } catch (...) {
        std::lock_guard<std::mutex> lock(mutex);
        if (!error) error = std::current_exception();
        stop.store(true, std::memory_order_relaxed);
      }
    }
  }

  void work(int thread, uint64_t seen) {
    for (;;) {
      for (int i = 0; i < spins && generation.load(std::memory_order_acquire) == seen; ++i) relax();
      {
        std::unique_lock<std::mutex> lock(mutex);
        wake.wait(lock, [&] { return stopping || generation.load(std::memory_order_relaxed) != seen; });
        if (stopping) return;
        seen = generation.load(std::memory_order_relaxed);
        if (!open) continue;
        ++taking_part;
      }
      run_tasks(thread);
      {
        std::lock_guard<std::mutex> lock(mutex);
        if (--taking_part == 0) finished.notify_one();
      }
    }
  }

  /// Starts up to threads − 1 workers: fewer where the system refuses to start more.
  void start(int threads) {
    stopping = false;
    const uint64_t seen = generation.load();
    try {
      spins = threads > logical_cpus() ? 0 : kSpins;
      scratch.resize(static_cast<size_t>(threads));
      workers.reserve(static_cast<size_t>(threads));
      for (int i = 1; i < threads; ++i) workers.emplace_back([this, i, seen] { work(i, seen); });
    } catch (const std::system_error&) {
    } catch (const std::bad_alloc&) {
    }
  }

  /// Changes the number of threads to the one wanted, by a caller whose turn it is.
  void apply_wanted() {
    const int threads = wanted.load(std::memory_order_relaxed);
    if (threads == static_cast<int>(workers.size()) + 1) return;
    stop_workers();
    start(threads);
    // If fewer were started, that number is the wanted one from now on, so that not every call tries again.
    int expected = threads;
    wanted.compare_exchange_strong(expected, static_cast<int>(workers.size()) + 1);
  }

  void stop_workers() {
    {
      std::lock_guard<std::mutex> lock(mutex);
      stopping = true;
    }
    wake.notify_all();
    for (auto& worker : workers) worker.join();
    workers.clear();
  }
};

// Never destroyed: at process exit Node may still have a worker inside the pool.
ThreadPool& ThreadPool::shared() {
  static ThreadPool* pool = new ThreadPool(physical_cores());
  return *pool;
}

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  state_->wanted = threads < 1 ? 1 : threads;
  state_->apply_wanted();
}

ThreadPool::~ThreadPool() {
  state_->stop_workers();
}

int ThreadPool::threads() const {
  return state_->wanted.load(std::memory_order_relaxed);
}

void ThreadPool::resize(int threads) {
  if (threads < 1 || threads > 256) throw Error(ErrorCode::invalid_argument, "Expected 1 to 256 threads");
  state_->wanted.store(threads, std::memory_order_relaxed);
}

void ThreadPool::free_scratch() {
  const std::lock_guard<std::mutex> turn(state_->turn);
  for (Scratch& scratch : state_->scratch) scratch = {};
}

size_t ThreadPool::scratch_bytes() const {
  const std::lock_guard<std::mutex> turn(state_->turn);
  size_t bytes = 0;
  for (const Scratch& scratch : state_->scratch)
    for (const std::vector<float>& slot : scratch.slots) bytes += slot.capacity() * sizeof(float);
  return bytes;
}

void ThreadPool::parallel_for(int64_t count, const CancelToken* cancel,
                              const std::function<void(int64_t, int)>& task) {
  State& s = *state_;
  if (cancel) cancel->check();
  if (count <= 0) return;
  std::lock_guard<std::mutex> turn(s.turn);
  s.apply_wanted();
  s.task = &task;
  s.cancel = cancel;
  s.count = count;
  s.next.store(0, std::memory_order_relaxed);
  s.stop.store(false, std::memory_order_relaxed);
  s.error = nullptr;
  const bool shared = count > 1 && !s.workers.empty();
  if (shared) {
    {
      std::lock_guard<std::mutex> lock(s.mutex);
      s.open = true;
      s.generation.fetch_add(1, std::memory_order_release);
    }
    const int64_t others = count - 1;
    if (others >= static_cast<int64_t>(s.workers.size()))
      s.wake.notify_all();
    else
      for (int64_t i = 0; i < others; ++i) s.wake.notify_one();
  }
  s.run_tasks(0);
  if (shared) {
    std::unique_lock<std::mutex> lock(s.mutex);
    s.open = false;
    s.finished.wait(lock, [&] { return s.taking_part == 0; });
  }
  if (s.error) std::rethrow_exception(std::exchange(s.error, nullptr));
  if (cancel) cancel->check();
}

}  // namespace nd
