#include "core/executor.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <utility>

#include "core/error.h"

namespace nd {

namespace {
constexpr std::chrono::seconds kIdle{10};
// Bounds the memory for stacks. Where more calls than this run at once, the others wait in the queue.
constexpr int kMaxThreads = 64;
}  // namespace

struct Executor::State {
  std::mutex mutex;
  std::condition_variable wake, ended;
  std::deque<std::function<void()>> queue;
  int max_threads = 1, threads = 0, idle = 0;
  bool stopping = false;

  void work() {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      ++idle;
      const bool woken = wake.wait_for(lock, kIdle, [&] { return stopping || !queue.empty(); });
      --idle;
      if (queue.empty() && (stopping || !woken)) break;
      if (queue.empty()) continue;
      {
        const std::function<void()> call = std::move(queue.front());
        queue.pop_front();
        lock.unlock();
        call();
        // What the call owns is freed here, without the lock.
      }
      lock.lock();
    }
    --threads;
    ended.notify_all();
  }
};

Executor& Executor::shared() {
  static Executor* executor = new Executor(kMaxThreads);
  return *executor;
}

Executor::Executor(int max_threads) : state_(std::make_shared<State>()) {
  state_->max_threads = max_threads;
}

Executor::~Executor() {
  std::unique_lock<std::mutex> lock(state_->mutex);
  state_->stopping = true;
  state_->wake.notify_all();
  state_->ended.wait(lock, [&] { return state_->threads == 0; });
}

void Executor::submit(std::function<void()> call) {
  State& s = *state_;
  const std::lock_guard<std::mutex> lock(s.mutex);
  s.queue.push_back(std::move(call));
  if (static_cast<int>(s.queue.size()) > s.idle && s.threads < s.max_threads) {
    try {
      // Detached: it keeps the state alive, not the executor.
      std::thread([state = state_] { state->work(); }).detach();
      ++s.threads;
    } catch (const std::exception&) {
      // Those that run will take it, if there are any.
      if (s.threads == 0) {
        s.queue.pop_back();
        throw Error(ErrorCode::out_of_memory, "Could not start a thread for the call");
      }
    }
  }
  s.wake.notify_one();
}

int Executor::threads() const {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->threads;
}

}  // namespace nd
