#include "image_arguments.h"
#include "configs.h"
#include "engine_limits.h"
#include "models.h"

namespace nd_binding {
Napi::Value VaeWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return ModelWrap::load(info, read_vae_config(info[0])); });
}

Napi::Value VaeWrap::quantize(NativeObject& self, const Napi::CallbackInfo& info) {
  const Pointer shared = model_of(self);
  const nd::VaeConfig& config = shared->model().config();
  const ImageSizes sizes = read_image_sizes(info, 1, 1);
  auto latents = std::make_shared<std::vector<float>>(
      to_floats(info[0], "latents", sizes.pixels * config.decoded_channels()));
  return compute<int32_t>(info.Env(), shared, info[4], sizes.pixels,
                          [=](nd::Vae& model, int32_t* out, const nd::CancelToken& cancel) {
                            model.quantize(latents->data(), sizes.n, sizes.h, sizes.w, out, &cancel);
                          });
}

Napi::Value VaeWrap::lookup(NativeObject& self, const Napi::CallbackInfo& info) {
  const Pointer shared = model_of(self);
  const nd::VaeConfig& config = shared->model().config();
  const ImageSizes sizes = read_image_sizes(info, 1, 1);
  auto codes = std::make_shared<std::vector<int32_t>>(to_ints(info[0], "codes", sizes.pixels));
  return compute<float>(info.Env(), shared, info[4], sizes.pixels * config.decoded_channels(),
                        [=](nd::Vae& model, float* out, const nd::CancelToken&) {
                          model.lookup(codes->data(), sizes.n, sizes.h, sizes.w, out);
                        });
}

const NativeMember VaeWrap::kMembers[2] = {
    {NativeMember::Kind::method, "quantize", quantize},
    {NativeMember::Kind::method, "lookup", lookup},
};

const NativeClass VaeWrap::kClass = {
    "NativeVae", nullptr, true, model_bytes, {kMembers, kCoding, kModelMembers}};

}  // namespace nd_binding
