// The addon's data of one JavaScript environment: the main thread or a worker thread. There are no globals;
// environments share nothing but the engine's thread pool.
#pragma once
#include <memory>

#include "calls.h"
#include "free_elsewhere.h"
#include "napi_all.h"

namespace nd_binding {

struct Addon {
  Napi::FunctionReference cancel_token, deep_features, kept_tensors, resident_tensors, cuda_device;
  Napi::FunctionReference text_encoder, unet, k_unet, control_net, control_lllite, t2i_adapter, vae, tiny_vae,
      image_encoder, ip_adapter;
  /// JavaScript's own constructors, which scripts cannot replace any more. They throw if memory is short,
  /// where N-API's functions abort the process.
  Napi::FunctionReference float32_array, int32_array, uint8_array;
  std::shared_ptr<Calls> calls;

  Addon() = default;
  /// Comes after the finalizers of all objects, as it was there before them.
  ~Addon() { wait_until_freed(); }
  Addon(const Addon&) = delete;
  Addon& operator=(const Addon&) = delete;

  static Addon& of(Napi::Env env) { return *env.GetInstanceData<Addon>(); }
};

}  // namespace nd_binding
