#include "configs.h"

#include <string>
#include <vector>

#include "arguments.h"
#include "core/error.h"
#include "failure.h"
#include "engine_limits.h"
#include "nn/loader.h"
#include "unet/k_unet.h"
#include "unet/unet.h"
#include "vae/vae.h"

namespace nd_binding {
namespace {

Napi::Value tensor_list(Napi::Env env, const std::vector<nd::RequiredTensor>& tensors) {
  Napi::Array list = Napi::Array::New(env, tensors.size());
  for (uint32_t i = 0; i < tensors.size(); ++i) {
    const Napi::HandleScope scope(env);
    const std::vector<int64_t>& dimensions = tensors[i].shape;
    Napi::Array shape = Napi::Array::New(env, dimensions.size());
    for (uint32_t d = 0; d < dimensions.size(); ++d) shape.Set(d, static_cast<double>(dimensions[d]));
    Napi::Object tensor = Napi::Object::New(env);
    tensor.Set("name", tensors[i].name);
    tensor.Set("shape", shape);
    list.Set(i, tensor);
  }
  return list;
}

template <class Model, class Config>
Napi::Value list_tensors(Napi::Env env, const Config& config) {
  return tensor_list(env, nd::required_tensors<Model>(config));
}

/// For each level one number, or a list with one for each of its layers.
std::vector<nd::Depths> read_depths(const Fields& fields, const char* key) {
  const Napi::Array list = to_array(fields.get(key), fields.name(key));
  if (list.Length() > Limits::levels)
    throw nd::Error(nd::ErrorCode::invalid_argument, "Expected at most " + std::to_string(Limits::levels) +
                                                         " elements for " + fields.name(key) +
                                                         " but received " + std::to_string(list.Length()));
  std::vector<nd::Depths> levels;
  for (uint32_t i = 0; i < list.Length(); ++i) {
    const Napi::Value level = list[i];
    const std::string name = fields.name(key) + "[" + std::to_string(i) + "]";
    levels.push_back(level.IsArray() ? nd::Depths(to_integers(level, name, 0, Limits::transformer_depth,
                                                              Limits::layers_per_level + 1))
                                     : nd::Depths(to_integer(level, name, 0, Limits::transformer_depth)));
  }
  return levels;
}

void read_class_embedding(const Fields& fields, nd::UnetConfig& config) {
  const std::string kind = fields.string("kind");
  if (kind == "table") {
    config.class_embedding = nd::ClassEmbedding::table;
    config.class_count = fields.integer("count", 1, Limits::vocabulary);
  } else if (kind == "timestep") {
    config.class_embedding = nd::ClassEmbedding::timestep;
  } else if (kind == "projection") {
    config.class_embedding = nd::ClassEmbedding::projection;
    config.class_width = fields.integer("width", 1, Limits::channels);
  } else {
    throw nd::Error(nd::ErrorCode::invalid_argument, "Expected one of table, timestep, projection for " +
                                                         fields.name("kind") + " but received " + kind);
  }
}

nd::Activation read_activation(const Fields& fields) {
  const std::string activation = fields.string("activation");
  if (activation != "quick_gelu" && activation != "gelu") {
    throw nd::Error(nd::ErrorCode::invalid_argument,
                    "Expected one of quick_gelu, gelu for config.activation but received " + activation);
  }
  return activation == "gelu" ? nd::Activation::gelu : nd::Activation::quick_gelu;
}

}  // namespace

nd::TextEncoderConfig read_text_encoder_config(Napi::Value value) {
  const Fields fields(value, "config");
  nd::TextEncoderConfig config;
  config.vocab_size = fields.integer("vocabSize", 1, Limits::vocabulary);
  config.width = fields.integer("width", 1, Limits::channels);
  config.layers = fields.integer("layers", 0, Limits::text_layers);
  config.heads = fields.integer("heads", 1, Limits::channels);
  config.intermediate = fields.integer("intermediate", 1, Limits::feed_forward);
  config.max_positions = fields.integer("maxPositions", 1, Limits::positions);
  config.layer_norm_eps = static_cast<float>(fields.number("layerNormEps"));
  config.projection_width =
      fields.has("projectionWidth") ? fields.integer("projectionWidth", 0, Limits::channels) : 0;
  config.projection_transposed = fields.has("projectionTransposed") && fields.boolean("projectionTransposed");
  config.activation = read_activation(fields);
  config.check();
  return config;
}

nd::ImageEncoderConfig read_image_encoder_config(Napi::Value value) {
  const Fields fields(value, "config");
  nd::ImageEncoderConfig config;
  config.image_size = fields.integer("imageSize", 1, Limits::image_side);
  config.patch_size = fields.integer("patchSize", 1, Limits::image_side);
  config.channels = fields.integer("channels", 1, Limits::channels);
  config.width = fields.integer("width", 1, Limits::channels);
  config.layers = fields.integer("layers", 0, Limits::text_layers);
  config.heads = fields.integer("heads", 1, Limits::channels);
  config.intermediate = fields.integer("intermediate", 1, Limits::feed_forward);
  config.activation = read_activation(fields);
  config.layer_norm_eps = static_cast<float>(fields.number("layerNormEps"));
  config.projection_width = fields.integer("projectionWidth", 1, Limits::channels);
  config.projection_transposed = fields.has("projectionTransposed") && fields.boolean("projectionTransposed");
  config.check();
  return config;
}

nd::UnetConfig read_unet_config(Napi::Value value, const std::string& name) {
  const Fields fields(value, name);
  if (fields.has("kBlocks"))
    throw nd::Error(nd::ErrorCode::invalid_argument, "Expected a UNet without kBlocks");
  nd::UnetConfig config;
  config.in_channels = fields.integer("inChannels", 1, Limits::channels);
  config.out_channels = fields.integer("outChannels", 1, Limits::channels);
  config.block_channels = fields.integers("blockChannels", 1, Limits::channels, Limits::levels);
  config.layers_per_block = fields.integers("layersPerBlock", 1, Limits::layers_per_level, Limits::levels);
  config.down_transformer_depth = read_depths(fields, "downTransformerDepth");
  config.up_transformer_depth = read_depths(fields, "upTransformerDepth");
  config.mid_transformer_depth = fields.integer("midTransformerDepth", -1, Limits::transformer_depth);
  config.heads = fields.integers("heads", 1, Limits::channels, Limits::levels);
  if (fields.has("onlyCrossAttention"))
    config.only_cross_attention = fields.integers("onlyCrossAttention", 0, 1, Limits::levels);
  config.context_width = fields.integer("contextWidth", 0, Limits::channels);
  config.norm_groups = fields.integer("normGroups", 1, Limits::channels);
  config.norm_eps = static_cast<float>(fields.number("normEps"));
  config.flip_sin_to_cos = fields.boolean("flipSinToCos");
  config.freq_shift = static_cast<float>(fields.number("freqShift"));
  if (fields.has("added")) {
    const Fields added(fields.get("added"), fields.name("added"));
    config.added_width = added.integer("width", 1, Limits::channels);
    config.added_time_width = added.integer("timeWidth", 1, Limits::channels);
  }
  if (fields.has("guidanceWidth"))
    config.guidance_width = fields.integer("guidanceWidth", 0, Limits::channels);
  if (fields.has("classEmbedding"))
    read_class_embedding(Fields(fields.get("classEmbedding"), fields.name("classEmbedding")), config);
  config.check();
  return config;
}

bool has_k_blocks(Napi::Value value) {
  return Fields(value, "config").has("kBlocks");
}

nd::KUnetConfig read_k_unet_config(Napi::Value value) {
  const Fields fields(value, "config");
  const Fields k_blocks(fields.get("kBlocks"), fields.name("kBlocks"));
  nd::KUnetConfig config;
  config.in_channels = fields.integer("inChannels", 1, Limits::channels);
  config.out_channels = fields.integer("outChannels", 1, Limits::channels);
  config.block_channels = fields.integers("blockChannels", 1, Limits::channels, Limits::levels);
  config.layers_per_block = fields.integers("layersPerBlock", 1, Limits::layers_per_level, Limits::levels);
  config.attends = fields.integers("downTransformerDepth", 0, 1, Limits::levels);
  config.head_width = k_blocks.integer("headWidth", 1, Limits::channels);
  config.group_width = k_blocks.integer("groupWidth", 1, Limits::channels);
  config.context_width = fields.integer("contextWidth", 1, Limits::channels);
  config.time_width = k_blocks.integer("timeWidth", 2, Limits::channels);
  config.condition_width = k_blocks.integer("conditionWidth", 1, Limits::channels);
  config.norm_eps = static_cast<float>(fields.number("normEps"));
  config.flip_sin_to_cos = fields.boolean("flipSinToCos");
  config.check();
  return config;
}

nd::ControlNetConfig read_control_net_config(Napi::Value value) {
  const Fields fields(value, "config");
  nd::ControlNetConfig config;
  config.unet = read_unet_config(fields.get("unet"), fields.name("unet"));
  config.image_channels = fields.integer("imageChannels", 1, Limits::channels);
  config.image_widths = fields.integers("imageWidths", 1, Limits::channels, Limits::levels);
  if (fields.has("union")) {
    const Fields several(fields.get("union"), fields.name("union"));
    config.unet.control_types = several.integer("types", 1, Limits::control_types);
    config.fusion_layers = several.integer("layers", 0, Limits::text_layers);
  }
  config.check();
  return config;
}

nd::IpAdapterConfig read_ip_adapter_config(Napi::Value value) {
  using Kind = nd::ImageProjectionConfig::Kind;
  const Fields fields(value, "config");
  const Fields projection(fields.get("projection"), fields.name("projection"));
  nd::IpAdapterConfig config;
  config.unet = read_unet_config(fields.get("unet"), fields.name("unet"));
  const std::string kind = projection.string("kind");
  if (kind != "linear" && kind != "mlp" && kind != "resampler" && kind != "faceResampler")
    throw nd::Error(
        nd::ErrorCode::invalid_argument,
        "Expected one of linear, mlp, resampler, faceResampler for config.projection.kind but received " +
            kind);
  nd::ImageProjectionConfig& image = config.projection;
  image.kind = kind == "linear"      ? Kind::linear
               : kind == "mlp"       ? Kind::mlp
               : kind == "resampler" ? Kind::resampler
                                     : Kind::face_resampler;
  image.width = projection.integer("width", 1, Limits::channels);
  image.context_width = projection.integer("contextWidth", 1, Limits::channels);
  image.tokens = projection.integer("tokens", 1, Limits::channels);
  if (image.kind != Kind::linear) image.hidden = projection.integer("hidden", 1, Limits::feed_forward);
  if (image.kind == Kind::face_resampler) {
    image.face_width = projection.integer("faceWidth", 1, Limits::channels);
    image.face_hidden = projection.integer("faceHidden", 1, Limits::feed_forward);
    image.shortcut = projection.boolean("shortcut");
  }
  if (image.resamples()) {
    image.layers = projection.integer("layers", 0, Limits::text_layers);
    image.heads = projection.integer("heads", 1, Limits::channels);
    image.head_dim = projection.integer("headDim", 1, Limits::channels);
    image.intermediate = projection.integer("intermediate", 1, Limits::feed_forward);
  }
  config.check();
  return config;
}

nd::ControlLlliteConfig read_control_lllite_config(Napi::Value value) {
  const Fields fields(value, "config");
  nd::ControlLlliteConfig config;
  config.image_channels = fields.integer("imageChannels", 1, Limits::channels);
  config.condition_width = fields.integer("conditionWidth", 1, Limits::channels);
  config.width = fields.integer("width", 1, Limits::channels);
  const Napi::Array list = to_array(fields.get("blocks"), fields.name("blocks"));
  if (list.Length() > Limits::attentions)
    throw nd::Error(nd::ErrorCode::invalid_argument, "Expected fewer elements for config.blocks");
  for (uint32_t i = 0; i < list.Length(); ++i) {
    const Fields one(list[i], fields.name("blocks") + "[" + std::to_string(i) + "]");
    nd::ControlLlliteBlock block;
    block.block = one.integer("block", 0, Limits::attentions - 1);
    block.channels = one.integer("channels", 1, Limits::channels);
    block.projections = one.integers("projections", 0, 1, nd::kProjections);
    block.kernels = one.integers("kernels", 1, Limits::adapter_factor, Limits::levels);
    config.blocks.push_back(std::move(block));
  }
  config.check();
  return config;
}

nd::T2iAdapterConfig read_t2i_adapter_config(Napi::Value value) {
  const Fields fields(value, "config");
  nd::T2iAdapterConfig config;
  config.image_channels = fields.integer("imageChannels", 1, Limits::channels);
  config.factor = fields.integer("factor", 1, Limits::adapter_factor);
  config.channels = fields.integers("channels", 1, Limits::channels, Limits::levels + 1);
  config.halves = fields.integers("halves", 0, 1, Limits::levels + 1);
  config.blocks = fields.integer("blocks", 1, Limits::layers_per_level);
  config.light = fields.boolean("light");
  config.check();
  return config;
}

nd::VaeConfig read_vae_config(Napi::Value value) {
  const Fields fields(value, "config");
  nd::VaeConfig config;
  config.in_channels = fields.integer("inChannels", 1, Limits::channels);
  config.out_channels = fields.integer("outChannels", 1, Limits::channels);
  config.latent_channels = fields.integer("latentChannels", 1, Limits::channels);
  config.block_channels = fields.integers("blockChannels", 1, Limits::channels, Limits::levels);
  config.layers_per_block = fields.integer("layersPerBlock", 1, Limits::layers_per_level);
  config.norm_groups = fields.integer("normGroups", 1, Limits::channels);
  config.mid_attention = fields.boolean("midAttention");
  config.quant_conv = fields.boolean("quantConv");
  config.post_quant_conv = fields.boolean("postQuantConv");
  if (fields.has("codebook")) {
    const Fields codebook(fields.get("codebook"), "config.codebook");
    config.codebook_size = codebook.integer("size", 1, Limits::vocabulary);
    config.codebook_width = codebook.integer("width", 1, Limits::channels);
  }
  config.check();
  return config;
}

nd::TinyVaeConfig read_tiny_vae_config(Napi::Value value) {
  const Fields fields(value, "config");
  nd::TinyVaeConfig config;
  config.in_channels = fields.integer("inChannels", 1, Limits::channels);
  config.out_channels = fields.integer("outChannels", 1, Limits::channels);
  config.latent_channels = fields.integer("latentChannels", 1, Limits::channels);
  config.width = fields.integer("width", 1, Limits::channels);
  config.encoder_blocks = fields.integers("encoderBlocks", 0, Limits::layers_per_level, Limits::levels);
  config.decoder_blocks = fields.integers("decoderBlocks", 0, Limits::layers_per_level, Limits::levels);
  config.check();
  return config;
}

Napi::Value required_tensors(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::string kind = to_string(info[0], "kind");
    if (kind == "textEncoder")
      return list_tensors<nd::TextEncoder>(info.Env(), read_text_encoder_config(info[1]));
    if (kind == "unet" && has_k_blocks(info[1]))
      return list_tensors<nd::KUnet>(info.Env(), read_k_unet_config(info[1]));
    if (kind == "unet") return list_tensors<nd::Unet>(info.Env(), read_unet_config(info[1]));
    if (kind == "controlNet")
      return list_tensors<nd::ControlNet>(info.Env(), read_control_net_config(info[1]));
    if (kind == "controlLllite")
      return list_tensors<nd::ControlLllite>(info.Env(), read_control_lllite_config(info[1]));
    if (kind == "t2iAdapter")
      return list_tensors<nd::T2iAdapter>(info.Env(), read_t2i_adapter_config(info[1]));
    if (kind == "vae") return list_tensors<nd::Vae>(info.Env(), read_vae_config(info[1]));
    if (kind == "tinyVae") return list_tensors<nd::TinyVae>(info.Env(), read_tiny_vae_config(info[1]));
    if (kind == "imageEncoder")
      return list_tensors<nd::ImageEncoder>(info.Env(), read_image_encoder_config(info[1]));
    if (kind == "ipAdapter") return list_tensors<nd::IpAdapter>(info.Env(), read_ip_adapter_config(info[1]));
    throw nd::Error(nd::ErrorCode::invalid_argument,
                    "Expected one of textEncoder, unet, controlNet, controlLllite, t2iAdapter, vae, tinyVae, "
                    "imageEncoder, "
                    "ipAdapter for kind but received " +
                        kind);
  });
}

}  // namespace nd_binding
