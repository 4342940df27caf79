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
  return DefineClass(env, kName, with_coding({}));
}

Napi::Value TinyVaeWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return ModelWrap::load(info, read_config(info[0])); });
}

}  // namespace nd_binding
