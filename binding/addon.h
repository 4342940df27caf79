// What one JavaScript environment (the main thread, each worker thread) keeps of this addon. There are no
// globals: the process shares the engine's thread pool and nothing else.
#pragma once
#include <memory>

#include "calls.h"
#include "napi_all.h"

namespace nd_binding {

struct Addon {
  Napi::FunctionReference cancel_token, deep_features, text_encoder, unet, vae, tiny_vae;
  /// JavaScript's own constructors, taken before anybody could replace them. They throw where memory is
  /// short; N-API's own functions abort.
  Napi::FunctionReference float32_array, int32_array, uint8_array;
  std::shared_ptr<Calls> calls;

  static Addon& of(Napi::Env env) { return *env.GetInstanceData<Addon>(); }
};

}  // namespace nd_binding
