// The class CancelToken of lib/native.ts.
#pragma once
#include <memory>

#include "core/cancel.h"
#include "napi_all.h"

namespace nd_binding {

struct CancelTokenWrap {
  static Napi::Function define(Napi::Env env);
  /// The flag of an optional argument: a new one for undefined and null. TypeFailure for other values.
  static std::shared_ptr<nd::CancelToken> from(Napi::Value value, const char* name);
};

}  // namespace nd_binding
