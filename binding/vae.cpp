#include "image_arguments.h"
#include "models.h"

namespace nd_binding {
namespace {

nd::VaeConfig read_config(Napi::Value value) {
  constexpr int64_t kMostCodes = int64_t{1} << 24;
  const Fields fields(value, "config");
  nd::VaeConfig config;
  config.in_channels = fields.integer("inChannels", 1, kMostWidth);
  config.out_channels = fields.integer("outChannels", 1, kMostWidth);
  config.latent_channels = fields.integer("latentChannels", 1, kMostWidth);
  config.block_channels = fields.integers("blockChannels", 1, kMostWidth);
  config.layers_per_block = fields.integer("layersPerBlock", 1, 100);
  config.norm_groups = fields.integer("normGroups", 1, kMostWidth);
  config.mid_attention = fields.boolean("midAttention");
  config.quant_conv = fields.boolean("quantConv");
  config.post_quant_conv = fields.boolean("postQuantConv");
  if (fields.has("codebook")) {
    const Fields codebook(fields.get("codebook"), "config.codebook");
    config.codebook_size = codebook.integer("size", 1, kMostCodes);
    config.codebook_width = codebook.integer("width", 1, kMostWidth);
  }
  config.check();
  return config;
}

}  // namespace

Napi::Function VaeWrap::define(Napi::Env env) {
  return DefineClass(
      env, kName,
      with_common({InstanceMethod("encode", &VaeWrap::encode), InstanceMethod("decode", &VaeWrap::decode),
                   InstanceMethod("encodeBytes", &VaeWrap::encode_bytes),
                   InstanceMethod("decodeBytes", &VaeWrap::decode_bytes),
                   InstanceMethod("quantize", &VaeWrap::quantize),
                   InstanceMethod("lookup", &VaeWrap::lookup)}));
}

Napi::Value VaeWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return ModelWrap::load(info, read_config(info[0])); });
}

Napi::Value VaeWrap::encode(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const nd::VaeConfig& config = held()->model().config();
    const int64_t f = config.factor();
    const Sizes sizes = read_sizes(info, 1, f);
    auto image =
        std::make_shared<std::vector<float>>(to_floats(info[0], "image", sizes.pixels * config.in_channels));
    const size_t most = read_most_bytes(info[4]);
    return compute<float>(info, 5, sizes.n * (sizes.h / f) * (sizes.w / f) * config.moment_channels(),
                          [=](nd::Vae& model, float* out, const nd::CancelToken& cancel) {
                            model.encode(image->data(), sizes.n, sizes.h, sizes.w, most, out, &cancel);
                          });
  });
}

Napi::Value VaeWrap::decode(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const nd::VaeConfig& config = held()->model().config();
    const Sizes sizes = read_sizes(info, 1, 1);
    const int64_t pixels = scaled_pixels(sizes, config.factor());
    auto latents = std::make_shared<std::vector<float>>(
        to_floats(info[0], "latents", sizes.pixels * config.decoded_channels()));
    const size_t most = read_most_bytes(info[4]);
    return compute<float>(info, 5, pixels * config.out_channels,
                          [=](nd::Vae& model, float* out, const nd::CancelToken& cancel) {
                            model.decode(latents->data(), sizes.n, sizes.h, sizes.w, most, out, &cancel);
                          });
  });
}

// Working memory is that of one image, whatever n.
Napi::Value VaeWrap::encode_bytes(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const nd::Vae& model = held()->model();
    const Sizes sizes = read_sizes(info, 0, model.config().factor());
    const size_t most = read_most_bytes(info[3]);
    return Napi::Number::New(info.Env(), static_cast<double>(model.encode_bytes(sizes.h, sizes.w, most)));
  });
}

Napi::Value VaeWrap::decode_bytes(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const nd::Vae& model = held()->model();
    const Sizes sizes = read_sizes(info, 0, 1);
    const size_t most = read_most_bytes(info[3]);
    scaled_pixels(sizes, model.config().factor());
    return Napi::Number::New(info.Env(), static_cast<double>(model.decode_bytes(sizes.h, sizes.w, most)));
  });
}

Napi::Value VaeWrap::quantize(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const nd::VaeConfig& config = held()->model().config();
    const Sizes sizes = read_sizes(info, 1, 1);
    auto latents = std::make_shared<std::vector<float>>(
        to_floats(info[0], "latents", sizes.pixels * config.decoded_channels()));
    return compute<int32_t>(info, 4, sizes.pixels,
                            [=](nd::Vae& model, int32_t* out, const nd::CancelToken& cancel) {
                              model.quantize(latents->data(), sizes.n, sizes.h, sizes.w, out, &cancel);
                            });
  });
}

Napi::Value VaeWrap::lookup(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const nd::VaeConfig& config = held()->model().config();
    const Sizes sizes = read_sizes(info, 1, 1);
    auto codes = std::make_shared<std::vector<int32_t>>(to_ints(info[0], "codes", sizes.pixels));
    return compute<float>(info, 4, sizes.pixels * config.decoded_channels(),
                          [=](nd::Vae& model, float* out, const nd::CancelToken&) {
                            model.lookup(codes->data(), sizes.n, sizes.h, sizes.w, out);
                          });
  });
}

}  // namespace nd_binding
