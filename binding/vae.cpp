#include "image_arguments.h"
#include "models.h"

namespace nd_binding {
namespace {

nd::VaeConfig read_config(Napi::Value value) {
  constexpr int64_t kMaxCodes = int64_t{1} << 24;
  const Fields fields(value, "config");
  nd::VaeConfig config;
  config.in_channels = fields.integer("inChannels", 1, kMaxWidth);
  config.out_channels = fields.integer("outChannels", 1, kMaxWidth);
  config.latent_channels = fields.integer("latentChannels", 1, kMaxWidth);
  config.block_channels = fields.integers("blockChannels", 1, kMaxWidth);
  config.layers_per_block = fields.integer("layersPerBlock", 1, 100);
  config.norm_groups = fields.integer("normGroups", 1, kMaxWidth);
  config.mid_attention = fields.boolean("midAttention");
  config.quant_conv = fields.boolean("quantConv");
  config.post_quant_conv = fields.boolean("postQuantConv");
  if (fields.has("codebook")) {
    const Fields codebook(fields.get("codebook"), "config.codebook");
    config.codebook_size = codebook.integer("size", 1, kMaxCodes);
    config.codebook_width = codebook.integer("width", 1, kMaxWidth);
  }
  config.check();
  return config;
}

}  // namespace

Napi::Function VaeWrap::define(Napi::Env env) {
  return DefineClass(env, kName,
                     with_coding({InstanceMethod("quantize", &VaeWrap::quantize),
                                  InstanceMethod("lookup", &VaeWrap::lookup)}));
}

Napi::Value VaeWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return ModelWrap::load(info, read_config(info[0])); });
}

Napi::Value VaeWrap::quantize(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const nd::VaeConfig& config = held()->model().config();
    const ImageSizes sizes = read_image_sizes(info, 1, 1);
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
    const ImageSizes sizes = read_image_sizes(info, 1, 1);
    auto codes = std::make_shared<std::vector<int32_t>>(to_ints(info[0], "codes", sizes.pixels));
    return compute<float>(info, 4, sizes.pixels * config.decoded_channels(),
                          [=](nd::Vae& model, float* out, const nd::CancelToken&) {
                            model.lookup(codes->data(), sizes.n, sizes.h, sizes.w, out);
                          });
  });
}

}  // namespace nd_binding
