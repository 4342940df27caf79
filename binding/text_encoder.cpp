#include "models.h"

namespace nd_binding {
namespace {

nd::TextEncoderConfig read_config(Napi::Value value) {
  constexpr int64_t kMaxTokens = int64_t{1} << 24;
  const Fields fields(value, "config");
  nd::TextEncoderConfig config;
  config.vocab_size = fields.integer("vocabSize", 1, kMaxTokens);
  config.width = fields.integer("width", 1, kMaxWidth);
  config.layers = fields.integer("layers", 0, 1000);
  config.heads = fields.integer("heads", 1, kMaxWidth);
  config.intermediate = fields.integer("intermediate", 1, 8 * kMaxWidth);
  config.max_positions = fields.integer("maxPositions", 1, kMaxTokens);
  config.layer_norm_eps = static_cast<float>(fields.number("layerNormEps"));
  const std::string activation = fields.string("activation");
  if (activation != "quick_gelu" && activation != "gelu") {
    throw nd::Error(nd::ErrorCode::invalid_argument,
                    "Expected one of quick_gelu, gelu for config.activation but received " + activation);
  }
  config.activation = activation == "gelu" ? nd::Activation::gelu : nd::Activation::quick_gelu;
  config.check();
  return config;
}

}  // namespace

Napi::Function TextEncoderWrap::define(Napi::Env env) {
  return DefineClass(env, kName, with_common({InstanceMethod("encode", &TextEncoderWrap::encode)}));
}

Napi::Value TextEncoderWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return ModelWrap::load(info, read_config(info[0])); });
}

Napi::Value TextEncoderWrap::encode(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const nd::TextEncoderConfig& config = held()->model().config();
    const int64_t n = to_integer(info[1], "n", 1, kMaxBatch);
    const int64_t length = to_integer(info[2], "length", 1, config.max_positions);
    const int64_t skip = to_integer(info[3], "skip", 0, config.layers);
    const int64_t rows = batch_pixels(n, 1, length);
    auto tokens = std::make_shared<std::vector<int32_t>>(to_ints(info[0], "tokens", rows));
    return compute<float>(info, 4, rows * config.width,
                          [=](nd::TextEncoder& model, float* out, const nd::CancelToken& cancel) {
                            model.encode(tokens->data(), n, length, skip, out, &cancel);
                          });
  });
}

}  // namespace nd_binding
