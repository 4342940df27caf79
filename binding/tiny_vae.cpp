#include "configs.h"
#include "models.h"

namespace nd_binding {

Napi::Value TinyVaeWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return ModelWrap::load(info, read_tiny_vae_config(info[0])); });
}

const NativeClass TinyVaeWrap::kClass = {
    "NativeTinyVae", nullptr, true, model_bytes, {kCoding, kModelMembers}};

}  // namespace nd_binding
