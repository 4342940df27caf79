#include "configs.h"
#include "engine_limits.h"
#include "models.h"

namespace nd_binding {
Napi::Function TextEncoderWrap::define(Napi::Env env) {
  return DefineClass(env, kName, with_common({InstanceMethod("encode", &TextEncoderWrap::encode)}));
}

Napi::Value TextEncoderWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return ModelWrap::load(info, read_text_encoder_config(info[0])); });
}

Napi::Value TextEncoderWrap::encode(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const Pointer shared = this->shared();
    const nd::TextEncoderConfig& config = shared->model().config();
    const int64_t n = to_integer(info[1], "n", 1, Limits::batch);
    const int64_t length = to_integer(info[2], "length", 1, config.max_positions);
    const int64_t skip = to_integer(info[3], "skip", 0, config.layers);
    const int64_t rows = batch_pixels(n, 1, length);
    auto tokens = std::make_shared<std::vector<int32_t>>(to_ints(info[0], "tokens", rows));
    return compute<float>(info.Env(), shared, info[4], rows * config.width,
                          [=](nd::TextEncoder& model, float* out, const nd::CancelToken& cancel) {
                            model.encode(tokens->data(), n, length, skip, out, &cancel);
                          });
  });
}

}  // namespace nd_binding
