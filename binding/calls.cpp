#include "calls.h"

#include <utility>

#include "core/executor.h"

namespace nd_binding {

std::shared_ptr<Calls> Calls::create(Napi::Env env) {
  std::shared_ptr<Calls> calls(new Calls());
  const auto settle = [](napi_env raw, napi_value, void* context, void*) {
    // Without an environment nobody waits any more: close() frees what is left.
    if (raw) static_cast<Calls*>(context)->settle_finished(raw);
  };
  const napi_status status =
      napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "node-diffusion"), 0, 1,
                                      nullptr, nullptr, calls.get(), settle, &calls->settle_);
  if (status != napi_ok) throw Napi::Error::New(env);
  napi_unref_threadsafe_function(env, calls->settle_);
  // Added after the function, so that it runs before the function's own clean-up.
  struct Closing {
    Napi::Env env;
    std::shared_ptr<Calls> calls;
  };
  napi_add_env_cleanup_hook(
      env,
      [](void* data) {
        const std::unique_ptr<Closing> closing(static_cast<Closing*>(data));
        closing->calls->close(closing->env);
      },
      new Closing{env, calls});
  return calls;
}

void Calls::start(Napi::Env env, std::unique_ptr<Call> call) {
  Call* const raw = call.get();
  all_.emplace(raw, std::move(call));
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++running_;
  }
  try {
    nd::Executor::shared().submit([calls = shared_from_this(), raw] {
      raw->run();
      calls->finished(raw);
    });
  } catch (...) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      --running_;
    }
    all_.erase(raw);
    throw;
  }
  if (all_.size() == 1) napi_ref_threadsafe_function(env, settle_);
}

void Calls::cancel_all() {
  for (const auto& entry : all_) entry.first->cancel();
}

void Calls::finished(Call* call) {
  const std::lock_guard<std::mutex> lock(mutex_);
  *last_finished_ = call;
  last_finished_ = &call->next_;
  --running_;
  idle_.notify_all();
  if (!closed_) napi_call_threadsafe_function(settle_, nullptr, napi_tsfn_nonblocking);
}

void Calls::settle_finished(Napi::Env env) {
  Call* call;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    call = std::exchange(finished_, nullptr);
    last_finished_ = &finished_;
  }
  while (call) {
    Call* const next = call->next_;
    const auto entry = all_.find(call);
    const std::unique_ptr<Call> owned = std::move(entry->second);
    all_.erase(entry);
    try {
      const Napi::HandleScope scope(env);
      owned->settle(env);
    } catch (...) {
      // The environment is ending: nothing can be thrown into it.
    }
    call = next;
  }
  if (all_.empty()) napi_unref_threadsafe_function(env, settle_);
}

void Calls::close(Napi::Env env) {
  cancel_all();
  {
    std::unique_lock<std::mutex> lock(mutex_);
    closed_ = true;
    idle_.wait(lock, [&] { return running_ == 0; });
  }
  const Napi::HandleScope scope(env);
  all_.clear();
  napi_release_threadsafe_function(settle_, napi_tsfn_abort);
}

}  // namespace nd_binding
