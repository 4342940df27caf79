#include "models.h"

namespace nd_binding {
namespace {

constexpr int64_t kMaxBlocks = 100;

nd::TinyVaeConfig read_config(Napi::Value value) {
  const Fields fields(value, "config");
  nd::TinyVaeConfig config;
  config.in_channels = fields.integer("inChannels", 1, kMaxWidth);
  config.out_channels = fields.integer("outChannels", 1, kMaxWidth);
  config.latent_channels = fields.integer("latentChannels", 1, kMaxWidth);
  config.width = fields.integer("width", 1, kMaxWidth);
  config.encoder_blocks = fields.integers("encoderBlocks", 0, kMaxBlocks);
  config.decoder_blocks = fields.integers("decoderBlocks", 0, kMaxBlocks);
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
