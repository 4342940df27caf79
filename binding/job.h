// The one asynchronous call: work on one of the engine's threads, then a settled promise.
#pragma once
#include <functional>
#include <memory>

#include "core/cancel.h"
#include "failure.h"
#include "napi_all.h"

namespace nd_binding {

/// Starts `execute` on another thread and returns the promise of what `result` then makes of it on the
/// JavaScript thread. `execute` must not touch JavaScript; an exception rejects the promise. Both are
/// destroyed on the JavaScript thread, so they may own references.
Napi::Promise run_async(Napi::Env env, std::shared_ptr<nd::CancelToken> cancel,
                        std::function<void(const nd::CancelToken&)> execute,
                        std::function<Napi::Value(Napi::Env)> result);

/// A typed array that a worker thread fills: created before the work begins, kept alive by the job that owns
/// this.
template <class Element>
class Output {
 public:
  /// Error out_of_memory if JavaScript cannot allocate so many elements.
  Output(Napi::Env env, int64_t length);
  Element* data() const { return data_; }
  Napi::Value value() const { return reference_->Value(); }

 private:
  std::shared_ptr<Napi::ObjectReference> reference_;
  Element* data_ = nullptr;
};

}  // namespace nd_binding
