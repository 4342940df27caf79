// convertRows of lib/native.ts: converts rows of a stored tensor to another type.
#pragma once
#include "napi_all.h"

namespace nd_binding {

Napi::Value convert_rows(const Napi::CallbackInfo& info);

}  // namespace nd_binding
