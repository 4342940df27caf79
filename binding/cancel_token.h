// The class CancelToken of lib/native.ts.
#pragma once
#include <memory>

#include "core/cancel.h"
#include "napi_all.h"

namespace nd_binding {

class CancelTokenWrap : public Napi::ObjectWrap<CancelTokenWrap> {
 public:
  static Napi::Function define(Napi::Env env);
  /// The flag of an optional argument: a new one for undefined and null. TypeFailure for other values.
  static std::shared_ptr<nd::CancelToken> from(Napi::Value value, const char* name);

  explicit CancelTokenWrap(const Napi::CallbackInfo& info);
  static CancelTokenWrap* Unwrap(Napi::Object object);

 private:
  Napi::Value cancel(const Napi::CallbackInfo& info);

  std::shared_ptr<nd::CancelToken> token_ = std::make_shared<nd::CancelToken>();
};

}  // namespace nd_binding
