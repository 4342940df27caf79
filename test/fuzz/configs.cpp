#include "control/ip_adapter.h"
#include "core/error.h"
#include "input.h"
#include "nn/loader.h"
#include "targets.h"
#include "text/text_encoder.h"
#include "unet/k_unet.h"
#include "unet/unet.h"
#include "vae/tiny.h"
#include "vae/vae.h"
#include "vision/image_encoder.h"

namespace nd::fuzz {
namespace {

// As binding/engine_limits.h has them, but for depths, which only make the lists longer.
constexpr int64_t kChannels = int64_t{1} << 15, kLevels = 8, kDepth = 4, kVocabulary = int64_t{1} << 24;

/// A number that the binding lets through: in 0…max.
int64_t bounded(Input& input, int64_t max) {
  const int64_t value = input.size(max);
  return value < 0 || value > max ? max : value;
}

std::vector<int64_t> list(Input& input, int64_t max, int64_t length) {
  // Lists of different lengths are one of the things to refuse.
  if (input.below(16) == 0) length = input.below(kLevels + 1);
  std::vector<int64_t> values;
  for (int64_t i = 0; i < length; ++i) values.push_back(bounded(input, max));
  return values;
}

/// A depth for a whole level or for each of its layers.
std::vector<Depths> depths(Input& input, int64_t levels) {
  std::vector<Depths> values;
  for (int64_t i = 0; i < levels; ++i) {
    if (input.below(4) > 0)
      values.emplace_back(bounded(input, kDepth));
    else
      values.emplace_back(list(input, kDepth, input.below(kDepth + 1)));
  }
  return values;
}

template <class Model, class Config>
void build(const Config& config) {
  try {
    for (const RequiredTensor& tensor : required_tensors<Model>(config)) {
      require(!tensor.name.empty() && !tensor.shape.empty());
      for (const int64_t side : tensor.shape) require(side > 0);
    }
  } catch (const Error& error) {
    require(error.code() == ErrorCode::invalid_argument);
  }
}

UnetConfig unet_config(Input& input) {
  UnetConfig config;
  const int64_t levels = input.below(kLevels + 1);
  config.in_channels = bounded(input, kChannels);
  config.out_channels = bounded(input, kChannels);
  config.block_channels = list(input, kChannels, levels);
  config.layers_per_block = list(input, kDepth, levels);
  config.down_transformer_depth = depths(input, levels);
  config.up_transformer_depth = depths(input, levels);
  config.mid_transformer_depth = bounded(input, kDepth + 1) - 1;
  config.heads = list(input, kChannels, levels);
  config.context_width = bounded(input, kChannels);
  config.norm_groups = bounded(input, kChannels);
  config.norm_eps = input.number<float>();
  config.freq_shift = input.number<float>();
  config.added_width = bounded(input, kChannels);
  config.added_time_width = bounded(input, kChannels);
  config.guidance_width = bounded(input, kChannels);
  config.class_count = bounded(input, kVocabulary);
  config.class_width = bounded(input, kChannels);
  return config;
}

void unet(Input& input) {
  build<Unet>(unet_config(input));
}

void k_unet(Input& input) {
  KUnetConfig config;
  const int64_t levels = input.below(kLevels + 1);
  config.in_channels = bounded(input, kChannels);
  config.out_channels = bounded(input, kChannels);
  config.block_channels = list(input, kChannels, levels);
  config.layers_per_block = list(input, kDepth, levels);
  config.attends = list(input, 1, levels);
  config.head_width = bounded(input, kChannels);
  config.group_width = bounded(input, kChannels);
  config.context_width = bounded(input, kChannels);
  config.time_width = bounded(input, kChannels);
  config.condition_width = bounded(input, kChannels);
  config.norm_eps = input.number<float>();
  build<KUnet>(config);
}

void ip_adapter(Input& input) {
  using Kind = ImageProjectionConfig::Kind;
  constexpr Kind kKinds[] = {Kind::linear, Kind::mlp, Kind::resampler, Kind::face_resampler};
  IpAdapterConfig config;
  config.unet = unet_config(input);
  ImageProjectionConfig& image = config.projection;
  image.kind = kKinds[input.below(4)];
  image.width = bounded(input, kChannels);
  image.context_width = input.below(4) ? config.unet.context_width : bounded(input, kChannels);
  image.tokens = bounded(input, kChannels);
  image.hidden = bounded(input, kChannels);
  image.layers = bounded(input, kDepth);
  image.heads = bounded(input, kChannels);
  image.head_dim = bounded(input, kChannels);
  image.intermediate = bounded(input, int64_t{1} << 17);
  image.face_width = bounded(input, kChannels);
  image.face_hidden = bounded(input, kChannels);
  image.shortcut = input.below(2) == 1;
  build<IpAdapter>(config);
}

void vae(Input& input) {
  VaeConfig config;
  config.in_channels = bounded(input, kChannels);
  config.out_channels = bounded(input, kChannels);
  config.latent_channels = bounded(input, kChannels);
  config.block_channels = list(input, kChannels, input.below(kLevels + 1));
  config.layers_per_block = bounded(input, kDepth);
  config.norm_groups = bounded(input, kChannels);
  config.mid_attention = input.below(2);
  config.quant_conv = input.below(2);
  config.post_quant_conv = input.below(2);
  config.codebook_size = input.below(2) ? bounded(input, kVocabulary) : 0;
  config.codebook_width = bounded(input, kChannels);
  build<Vae>(config);
}

void tiny(Input& input) {
  TinyVaeConfig config;
  config.in_channels = bounded(input, kChannels);
  config.out_channels = bounded(input, kChannels);
  config.latent_channels = bounded(input, kChannels);
  config.width = bounded(input, kChannels);
  config.encoder_blocks = list(input, kDepth, input.below(kLevels + 1));
  config.decoder_blocks = list(input, kDepth, input.below(kLevels + 1));
  build<TinyVae>(config);
}

void text(Input& input) {
  TextEncoderConfig config;
  config.vocab_size = bounded(input, kVocabulary);
  config.width = bounded(input, kChannels);
  config.layers = bounded(input, kDepth);
  config.heads = bounded(input, kChannels);
  config.intermediate = bounded(input, int64_t{1} << 17);
  config.max_positions = bounded(input, int64_t{1} << 16);
  config.layer_norm_eps = input.number<float>();
  config.projection_width = bounded(input, kChannels);
  config.projection_transposed = input.below(2);
  build<TextEncoder>(config);
}

Activation activation(Input& input) {
  constexpr Activation kAll[] = {Activation::quick_gelu, Activation::gelu};
  return kAll[input.below(2)];
}

void image_encoder(Input& input) {
  ImageEncoderConfig config;
  config.image_size = bounded(input, int64_t{1} << 12);
  config.patch_size = bounded(input, int64_t{1} << 12);
  config.channels = bounded(input, kChannels);
  config.width = bounded(input, kChannels);
  config.layers = bounded(input, kDepth);
  config.heads = bounded(input, kChannels);
  config.intermediate = bounded(input, int64_t{1} << 17);
  config.activation = activation(input);
  config.layer_norm_eps = input.number<float>();
  config.projection_width = bounded(input, kChannels);
  config.projection_transposed = input.below(2);
  build<ImageEncoder>(config);
}

}  // namespace

void configs(const uint8_t* data, size_t size) {
  Input input(data, size);
  constexpr void (*kKinds[])(Input&) = {unet, k_unet, vae, tiny, text, image_encoder, ip_adapter};
  kKinds[input.below(7)](input);
}

}  // namespace nd::fuzz
