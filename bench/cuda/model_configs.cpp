#include "model_configs.h"

#include <algorithm>

#include "core/error.h"

namespace nd::cuda_bench {
namespace {

int64_t groups(int64_t shrink) {
  return 32 / std::min<int64_t>(shrink, 8);
}

TextEncoderConfig clip_large(int64_t s) {
  TextEncoderConfig config;
  config.vocab_size /= s, config.width /= s, config.intermediate /= s;
  return config;
}

/// OpenCLIP's ViT-bigG.
TextEncoderConfig clip_giant(int64_t s) {
  TextEncoderConfig config;
  config.vocab_size /= s;
  config.width = config.projection_width = 1280 / s;
  config.intermediate = 5120 / s;
  config.layers = 32;
  config.heads = 20;
  config.activation = Activation::gelu;
  return config;
}

/// That of both models: they differ in their weights.
VaeConfig autoencoder(int64_t s) {
  VaeConfig config;
  config.block_channels = {128 / s, 256 / s, 512 / s, 512 / s};
  config.norm_groups = groups(s);
  return config;
}

}  // namespace

int64_t ModelConfig::shrunk(int64_t side, int64_t shrink) const {
  return std::max(int64_t{1} << (unet.levels() - 1), side / shrink);
}

ModelConfig stable_diffusion(int64_t shrink) {
  const int64_t s = shrink;
  ModelConfig model;
  model.title = "SD 1.5";
  model.texts = {{clip_large(s)}};
  UnetConfig& unet = model.unet;
  unet.block_channels = {320 / s, 640 / s, 1280 / s, 1280 / s};
  unet.layers_per_block = {2, 2, 2, 2};
  unet.down_transformer_depth = unet.up_transformer_depth = {1, 1, 1, 0};
  unet.heads = {8, 8, 8, 8};
  unet.context_width = 768 / s;
  unet.norm_groups = groups(s);
  model.vae = autoencoder(s);
  model.scaling = 0.18215f;
  model.sides = {64, 128};
  return model;
}

ModelConfig stable_diffusion_xl(int64_t shrink) {
  const int64_t s = shrink;
  ModelConfig model;
  model.title = "SDXL";
  model.texts = {{clip_large(s), 1, false}, {clip_giant(s), 1, false, true}};
  UnetConfig& unet = model.unet;
  unet.block_channels = {320 / s, 640 / s, 1280 / s};
  unet.layers_per_block = {2, 2, 2};
  unet.down_transformer_depth = unet.up_transformer_depth = {0, 2, 10};
  unet.mid_transformer_depth = 10;
  unet.heads = {5, 10, 20};
  unet.context_width = 2048 / s;
  unet.added_width = 2816 / s, unet.added_time_width = 256 / s;
  unet.norm_groups = groups(s);
  model.vae = autoencoder(s);
  model.scaling = 0.13025f;
  model.sides = {128};
  return model;
}

ModelConfig model_config(const std::string& name, int64_t shrink) {
  if (name == "sd15") return stable_diffusion(shrink);
  if (name == "sdxl") return stable_diffusion_xl(shrink);
  throw Error(ErrorCode::invalid_argument, "Expected sd15 or sdxl for --model but received " + name);
}

}  // namespace nd::cuda_bench
