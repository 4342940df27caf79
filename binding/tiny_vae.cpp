#include "configs.h"
#include "models.h"

namespace nd_binding {

Napi::Function TinyVaeWrap::define(Napi::Env env) {
  return DefineClass(env, kName, with_coding({}));
}

Napi::Value TinyVaeWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return ModelWrap::load(info, read_tiny_vae_config(info[0])); });
}

}  // namespace nd_binding
