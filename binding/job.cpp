#include "job.h"

#include <utility>

#include "addon.h"
#include "calls.h"
#include "core/error.h"

namespace nd_binding {
namespace {

class Job final : public Calls::Call {
 public:
  Job(Napi::Env env, std::shared_ptr<nd::CancelToken> cancel,
      std::function<void(const nd::CancelToken&)> execute, std::function<Napi::Value(Napi::Env)> result)
      : cancel_(std::move(cancel)),
        execute_(std::move(execute)),
        result_(std::move(result)),
        deferred_(Napi::Promise::Deferred::New(env)) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

  void cancel() override { cancel_->cancel(); }

  void run() noexcept override {
    try {
      cancel_->check();
      execute_(*cancel_);
    } catch (...) {
      failure_ = Failure::current();
    }
  }

  void settle(Napi::Env env) override {
    if (failure_) {
      deferred_.Reject(failure_.to_js(env).Value());
      return;
    }
    try {
      deferred_.Resolve(guarded(env, [&] { return result_(env); }));
    } catch (const Napi::Error& error) {
      deferred_.Reject(error.Value());
    }
  }

 private:
  std::shared_ptr<nd::CancelToken> cancel_;
  std::function<void(const nd::CancelToken&)> execute_;
  std::function<Napi::Value(Napi::Env)> result_;
  Napi::Promise::Deferred deferred_;
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
  auto job = std::make_unique<Job>(env, std::move(cancel), std::move(execute), std::move(result));
  const Napi::Promise promise = job->promise();
  Addon::of(env).calls->start(env, std::move(job));
  return promise;
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
