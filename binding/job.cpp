#include "job.h"

#include <utility>

#include "addon.h"
#include "core/error.h"

namespace nd_binding {
namespace {

class Job {
 public:
  Job(Napi::Env env, std::shared_ptr<nd::CancelToken> cancel,
      std::function<void(const nd::CancelToken&)> execute, std::function<Napi::Value(Napi::Env)> result)
      : cancel_(std::move(cancel)),
        execute_(std::move(execute)),
        result_(std::move(result)),
        deferred_(Napi::Promise::Deferred::New(env)),
        running_(Addon::of(env).running) {
    const napi_status status = napi_create_async_work(env, nullptr, Napi::String::New(env, "node-diffusion"),
                                                      &Job::on_worker, &Job::on_complete, this, &work_);
    if (status != napi_ok) throw Napi::Error::New(env);
  }

  static Napi::Promise start(Napi::Env env, std::unique_ptr<Job> job) {
    const Napi::Promise promise = job->deferred_.Promise();
    job->running_->insert(job->cancel_);
    if (napi_queue_async_work(env, job->work_) != napi_ok) {
      job->running_->erase(job->cancel_);
      napi_delete_async_work(env, job->work_);
      throw Napi::Error::New(env);
    }
    (void)job.release();  // on_complete deletes it
    return promise;
  }

 private:
  static void on_worker(napi_env, void* data) {
    Job& job = *static_cast<Job*>(data);
    try {
      job.cancel_->check();
      job.execute_(*job.cancel_);
    } catch (...) {
      job.failure_ = Failure::current();
    }
  }

  // Also called while the environment shuts down; then every call into JavaScript fails, and nobody waits for
  // it.
  static void on_complete(napi_env raw, napi_status status, void* data) {
    const std::unique_ptr<Job> job(static_cast<Job*>(data));
    const Napi::Env env(raw);
    try {
      const Napi::HandleScope scope(env);
      job->running_->erase(job->cancel_);
      napi_delete_async_work(raw, job->work_);
      if (status == napi_cancelled)
        job->failure_ = {Failure::Kind::cancelled, "CANCELLED", "The call was cancelled"};
      job->settle(env);
    } catch (...) {
    }
  }

  void settle(Napi::Env env) {
    if (!failure_) {
      try {
        deferred_.Resolve(guarded(env, [&] { return result_(env); }));
      } catch (const Napi::Error& error) {
        deferred_.Reject(error.Value());
      }
      return;
    }
    deferred_.Reject(failure_.to_js(env).Value());
  }

  std::shared_ptr<nd::CancelToken> cancel_;
  std::function<void(const nd::CancelToken&)> execute_;
  std::function<Napi::Value(Napi::Env)> result_;
  Napi::Promise::Deferred deferred_;
  std::shared_ptr<RunningCalls> running_;
  napi_async_work work_ = nullptr;
  Failure failure_;
};

napi_typedarray_type type_of(float) {
  return napi_float32_array;
}
napi_typedarray_type type_of(int32_t) {
  return napi_int32_array;
}
napi_typedarray_type type_of(uint8_t) {
  return napi_uint8_array;
}
Napi::FunctionReference& constructor(Addon& addon, float) {
  return addon.float32_array;
}
Napi::FunctionReference& constructor(Addon& addon, int32_t) {
  return addon.int32_array;
}
Napi::FunctionReference& constructor(Addon& addon, uint8_t) {
  return addon.uint8_array;
}

}  // namespace

Napi::Promise run_async(Napi::Env env, std::shared_ptr<nd::CancelToken> cancel,
                        std::function<void(const nd::CancelToken&)> execute,
                        std::function<Napi::Value(Napi::Env)> result) {
  return Job::start(env,
                    std::make_unique<Job>(env, std::move(cancel), std::move(execute), std::move(result)));
}

template <class Element>
Output<Element>::Output(Napi::Env env, int64_t length) {
  Napi::Object array;
  try {
    array = constructor(Addon::of(env), Element{}).New({Napi::Number::New(env, static_cast<double>(length))});
  } catch (const Napi::Error&) {
    throw nd::Error(nd::ErrorCode::out_of_memory,
                    "Not enough memory for a result of " + std::to_string(length) + " elements");
  }
  napi_typedarray_type type;
  size_t actual = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(env, array, &type, &actual, &data, nullptr, nullptr) != napi_ok ||
      type != type_of(Element{}) || actual != static_cast<size_t>(length)) {
    throw nd::Error(nd::ErrorCode::out_of_memory, "Not enough memory for the result");
  }
  data_ = static_cast<Element*>(data);
  reference_ = std::make_shared<Napi::ObjectReference>(Napi::Persistent(array));
}

template class Output<float>;
template class Output<int32_t>;
template class Output<uint8_t>;

}  // namespace nd_binding
