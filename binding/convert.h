// convertRows of lib/native.ts: a stored tensor rewritten in another type, some rows at a time.
#pragma once
#include "napi_all.h"

namespace nd_binding {

Napi::Value convert_rows(const Napi::CallbackInfo& info);

}  // namespace nd_binding
