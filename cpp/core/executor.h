// Background threads for calls that take long: loading a model, a prediction, freeing a model's memory. The
// computation itself runs on the ThreadPool; these threads wait for it, so that the host's own threads
// (Node's event loop, libuv's pool) don't have to.
#pragma once
#include <functional>
#include <memory>

namespace nd {

class Executor {
 public:
  /// The process's. Never destroyed: a call may still be running when the process ends.
  static Executor& shared();

  /// At most `max_threads` calls run at once; more of them wait in the order of submission.
  explicit Executor(int max_threads);
  /// Waits for all calls.
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  /// Runs `call`, which must not throw, on a thread of its own. Threads are started when they are needed and
  /// end when they have been idle for a while. Error out_of_memory: no thread is idle and the system refuses
  /// to start one, or memory is short. The call then does not run.
  void submit(std::function<void()> call);

  /// Threads that exist now.
  int threads() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace nd
