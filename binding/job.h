// All asynchronous calls: they run on one of the engine's threads and settle a promise.
#pragma once
#include <functional>
#include <memory>

#include "core/cancel.h"
#include "failure.h"
#include "napi_all.h"

namespace nd_binding {

/// Runs `execute` on another thread and then `result` on the JavaScript thread, and returns a promise of its
/// result. `execute` must not use JavaScript; its exceptions reject the promise. Both functions are destroyed
/// on the JavaScript thread, so they may own references.
Napi::Promise run_async(Napi::Env env, std::shared_ptr<nd::CancelToken> cancel,
                        std::function<void(const nd::CancelToken&)> execute,
                        std::function<Napi::Value(Napi::Env)> result);

/// A typed array that a worker thread fills. It is created before the work begins and kept alive by the job
/// that owns this object.
template <class Element>
class Output {
 public:
  /// Error out_of_memory if JavaScript cannot allocate this many elements.
  Output(Napi::Env env, int64_t length);
  Element* data() const { return data_; }
  Napi::Value value() const { return reference_->Value(); }

 private:
  std::shared_ptr<Napi::ObjectReference> reference_;
  Element* data_ = nullptr;
};

}  // namespace nd_binding
