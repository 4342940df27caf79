// The image encoder.
#include "configs.h"
#include "engine_limits.h"
#include "models.h"

namespace nd_binding {

Napi::Value ImageEncoderWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return ModelWrap::load(info, read_image_encoder_config(info[0])); });
}

Napi::Value ImageEncoderWrap::encode(NativeObject& self, const Napi::CallbackInfo& info) {
  const Pointer shared = model_of(self);
  const nd::ImageEncoderConfig& config = shared->model().config();
  const Fields call(info[0], "call");
  const int64_t n = call.integer("n", 1, Limits::images);
  const int64_t pixels = batch_pixels(n, config.image_size, config.image_size);
  auto images = std::make_shared<std::vector<float>>(call.floats("images", pixels * config.channels));
  const bool hidden = call.has("skip");
  const int64_t skip = hidden ? call.integer("skip", 0, config.layers) : 0;
  const int64_t length = n * (hidden ? config.length() * config.width : config.projection_width);
  return compute<float>(info.Env(), shared, info[1], length,
                        [=](nd::ImageEncoder& model, float* out, const nd::CancelToken& cancel) {
                          model.encode(images->data(), n, skip, hidden ? out : nullptr,
                                       hidden ? nullptr : out, &cancel);
                        });
}

Napi::Value ImageEncoderWrap::working_bytes(NativeObject& self, const Napi::CallbackInfo& info) {
  const int64_t n = to_integer(info[0], "n", 1, Limits::images);
  return bytes_value(info.Env(), model_of(self)->model().working_bytes(n));
}

const NativeMember ImageEncoderWrap::kMembers[2] = {
    {NativeMember::Kind::method, "encode", encode},
    {NativeMember::Kind::method, "workingBytes", working_bytes},
};

const NativeClass ImageEncoderWrap::kClass = {
    "NativeImageEncoder", nullptr, true, model_bytes, {kMembers, kModelMembers}};

}  // namespace nd_binding
