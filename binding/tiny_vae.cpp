#include "image_arguments.h"
#include "models.h"

namespace nd_binding {
namespace {

constexpr int64_t kMostBlocks = 100;

nd::TinyVaeConfig read_config(Napi::Value value) {
  const Fields fields(value, "config");
  nd::TinyVaeConfig config;
  config.in_channels = fields.integer("inChannels", 1, kMostWidth);
  config.out_channels = fields.integer("outChannels", 1, kMostWidth);
  config.latent_channels = fields.integer("latentChannels", 1, kMostWidth);
  config.width = fields.integer("width", 1, kMostWidth);
  config.encoder_blocks = fields.integers("encoderBlocks", 0, kMostBlocks);
  config.decoder_blocks = fields.integers("decoderBlocks", 0, kMostBlocks);
  config.check();
  return config;
}

}  // namespace

Napi::Function TinyVaeWrap::define(Napi::Env env) {
  return DefineClass(env, kName,
                     with_common({InstanceMethod("encode", &TinyVaeWrap::encode),
                                  InstanceMethod("decode", &TinyVaeWrap::decode),
                                  InstanceMethod("encodeBytes", &TinyVaeWrap::encode_bytes),
                                  InstanceMethod("decodeBytes", &TinyVaeWrap::decode_bytes)}));
}

Napi::Value TinyVaeWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return ModelWrap::load(info, read_config(info[0])); });
}

Napi::Value TinyVaeWrap::encode(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const nd::TinyVaeConfig& config = held()->model().config();
    const int64_t f = config.factor();
    const Sizes sizes = read_sizes(info, 1, 1);
    auto image =
        std::make_shared<std::vector<float>>(to_floats(info[0], "image", sizes.pixels * config.in_channels));
    const size_t most = read_most_bytes(info[4]);
    const int64_t latents = sizes.n * ((sizes.h + f - 1) / f) * ((sizes.w + f - 1) / f);
    return compute<float>(info, 5, latents * config.latent_channels,
                          [=](nd::TinyVae& model, float* out, const nd::CancelToken& cancel) {
                            model.encode(image->data(), sizes.n, sizes.h, sizes.w, most, out, &cancel);
                          });
  });
}

Napi::Value TinyVaeWrap::decode(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const nd::TinyVaeConfig& config = held()->model().config();
    const Sizes sizes = read_sizes(info, 1, 1);
    const int64_t pixels = scaled_pixels(sizes, config.factor());
    auto latents = std::make_shared<std::vector<float>>(
        to_floats(info[0], "latents", sizes.pixels * config.latent_channels));
    const size_t most = read_most_bytes(info[4]);
    return compute<float>(info, 5, pixels * config.out_channels,
                          [=](nd::TinyVae& model, float* out, const nd::CancelToken& cancel) {
                            model.decode(latents->data(), sizes.n, sizes.h, sizes.w, most, out, &cancel);
                          });
  });
}

Napi::Value TinyVaeWrap::encode_bytes(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Sizes sizes = read_sizes(info, 0, 1);
    const size_t bytes = held()->model().encode_bytes(sizes.h, sizes.w, read_most_bytes(info[3]));
    return Napi::Number::New(info.Env(), static_cast<double>(bytes));
  });
}

Napi::Value TinyVaeWrap::decode_bytes(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const nd::TinyVae& model = held()->model();
    const Sizes sizes = read_sizes(info, 0, 1);
    scaled_pixels(sizes, model.config().factor());
    const size_t bytes = model.decode_bytes(sizes.h, sizes.w, read_most_bytes(info[3]));
    return Napi::Number::New(info.Env(), static_cast<double>(bytes));
  });
}

}  // namespace nd_binding
