// The calls of one JavaScript environment that run on the engine's own threads (never on libuv's).
#pragma once
#include <condition_variable>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "core/cancel.h"
#include "napi_all.h"

namespace nd_binding {

class Calls : public std::enable_shared_from_this<Calls> {
 public:
  /// Made, settled and destroyed on the JavaScript thread; only run() is called on another one.
  class Call {
   public:
    virtual ~Call() = default;
    virtual void run() noexcept = 0;
    virtual void settle(Napi::Env env) = 0;
    virtual void cancel() = 0;

   private:
    friend class Calls;
    Call* next_ = nullptr;  // of those that have run: a list that needs no memory
  };

  /// When the environment ends, its running calls are cancelled and waited for: they write into arrays of its
  /// heap.
  static std::shared_ptr<Calls> create(Napi::Env env);
  ~Calls() = default;

  /// Keeps the environment alive until the call has settled. Error out_of_memory: it does not run.
  void start(Napi::Env env, std::unique_ptr<Call> call);
  void cancel_all();

 private:
  Calls() = default;
  void finished(Call* call);
  void settle_finished(Napi::Env env);
  void close(Napi::Env env);

  napi_threadsafe_function settle_ = nullptr;
  std::unordered_map<Call*, std::unique_ptr<Call>> all_;  // JavaScript thread only

  std::mutex mutex_;
  std::condition_variable idle_;
  int running_ = 0;
  bool closed_ = false;
  Call* finished_ = nullptr;
  Call** last_finished_ = &finished_;
};

}  // namespace nd_binding
