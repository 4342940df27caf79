#include "unet/unet.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/error.h"

namespace nd {

Unet::Unet(const UnetConfig& config, Loader& loader) : config_(config), kernels_(loader.kernels) {
  config.check();
  time_ = TimestepEmbedding(loader, "time_embedding", config);
  Conv2dOptions outermost;
  outermost.sensitive = true;
  conv_in_ = Conv2d(loader, "conv_in", config.in_channels, config.block_channels[0], outermost);
  load_down(loader);
  load_middle(loader);
  load_up(loader);
  norm_out_ =
      GroupNorm(loader, "conv_norm_out", config.block_channels[0], config.norm_groups, config.norm_eps);
  conv_out_ = Conv2d(loader, "conv_out", config.block_channels[0], config.out_channels, outermost);
}

Unet::Layer Unet::make_layer(Loader& loader, const std::string& prefix, int64_t index, int64_t in,
                             int64_t level, int64_t depth) const {
  const size_t l = static_cast<size_t>(level);
  const std::string number = std::to_string(index);
  Layer layer;
  layer.block = ResBlock(loader, prefix + ".resnets." + number, in, config_.block_channels[l],
                         config_.norm_groups, config_.norm_eps, config_.time_width());
  if (depth > 0) {
    TransformerOptions options;
    options.channels = config_.block_channels[l];
    options.heads = config_.heads[l];
    options.depth = depth;
    options.context_width = config_.context_width;
    options.norm_groups = config_.norm_groups;
    layer.attention.emplace_back(loader, prefix + ".attentions." + number, options);
  }
  return layer;
}

void Unet::load_down(Loader& loader) {
  int64_t channels = config_.block_channels[0];
  for (int64_t level = 0; level < config_.levels(); ++level) {
    const size_t l = static_cast<size_t>(level);
    const std::string prefix = "down_blocks." + std::to_string(level);
    Down down;
    for (int64_t i = 0; i < config_.layers_per_block[l]; ++i) {
      down.layers.push_back(
          make_layer(loader, prefix, i, channels, level, config_.down_transformer_depth[l]));
      channels = config_.block_channels[l];
    }
    if (level + 1 < config_.levels()) {
      Conv2dOptions halve;
      halve.stride = 2;
      down.downsample.emplace_back(loader, prefix + ".downsamplers.0.conv", channels, channels, halve);
    }
    down_.push_back(std::move(down));
  }
}

void Unet::load_middle(Loader& loader) {
  if (config_.mid_transformer_depth < 0) return;
  const int64_t level = config_.levels() - 1, channels = config_.block_channels.back();
  middle_.push_back(make_layer(loader, "mid_block", 0, channels, level, config_.mid_transformer_depth));
  // Without attention diffusers builds the middle of one residual block, not two in a row.
  if (config_.mid_transformer_depth > 0)
    middle_.push_back(make_layer(loader, "mid_block", 1, channels, level, 0));
}

void Unet::load_up(Loader& loader) {
  // What the way down leaves behind, in that order; the way up takes it from the back.
  std::vector<int64_t> skips = {config_.block_channels[0]};
  for (size_t l = 0; l < config_.block_channels.size(); ++l) {
    const bool downsamples = l + 1 < config_.block_channels.size();
    skips.insert(skips.end(), static_cast<size_t>(config_.layers_per_block[l]) + (downsamples ? 1 : 0),
                 config_.block_channels[l]);
  }
  int64_t channels = config_.block_channels.back();
  for (int64_t i = 0; i < config_.levels(); ++i) {
    const int64_t level = config_.levels() - 1 - i;
    const size_t l = static_cast<size_t>(level);
    const std::string prefix = "up_blocks." + std::to_string(i);
    Up up;
    for (int64_t j = 0; j <= config_.layers_per_block[l]; ++j) {
      up.layers.push_back(
          make_layer(loader, prefix, j, channels + skips.back(), level, config_.up_transformer_depth[l]));
      skips.pop_back();
      channels = config_.block_channels[l];
    }
    if (level > 0) up.upsample.emplace_back(loader, prefix + ".upsamplers.0.conv", channels);
    up_.push_back(std::move(up));
  }
}

Feature Unet::forward(Run& run, const Input& input) const {
  const Feature time = time_.forward(run, input.timesteps, input.n);
  Feature context;
  if (config_.has_attention()) {
    context = Feature(run, input.n, 1, input.length, config_.context_width);
    if (!run.measuring()) std::copy_n(input.context, context.size(), context.data());
  }
  const auto attend = [&](const Layer& layer, Feature x) {
    for (const SpatialTransformer& attention : layer.attention)
      x = attention.forward(run, std::move(x), context);
    return x;
  };

  std::vector<Feature> skips;
  {
    const Feature latents = from_planar(run, input.latents, input.n, config_.in_channels, input.h, input.w);
    skips.push_back(conv_in_.forward(run, latents));
  }
  for (const Down& down : down_) {
    for (const Layer& layer : down.layers) {
      skips.push_back(attend(layer, layer.block.forward(run, skips.back(), &time)));
    }
    for (const Conv2d& downsample : down.downsample) skips.push_back(downsample.forward(run, skips.back()));
  }

  // The first block's input is also the last skip, so it is read in place. (Without a middle block the way up
  // begins with the last skip twice.)
  Feature x;
  for (const Layer& layer : middle_) {
    x = attend(layer, x ? layer.block.forward(run, std::move(x), &time)
                        : layer.block.forward(run, skips.back(), &time));
  }

  for (const Up& up : up_) {
    for (const Layer& layer : up.layers) {
      Feature both = concat(run, x ? x : skips.back(), skips.back());
      x.release();
      skips.pop_back();
      x = attend(layer, layer.block.forward(run, std::move(both), &time));
    }
    for (const Upsample& upsample : up.upsample) {
      x = upsample.forward(run, x, skips.back().h, skips.back().w);
    }
  }
  return conv_out_.forward(run, x, &norm_out_);
}

void Unet::predict(const float* latents, int64_t n, int64_t h, int64_t w, const float* timesteps,
                   const float* context, int64_t length, float* out, const CancelToken* cancel) {
  if (n < 1 || h < 1 || w < 1 || (length < 1 && config_.has_attention())) {
    throw Error(ErrorCode::invalid_argument,
                "Expected latents and context of at least one element a dimension");
  }
  const Input input{latents, n, h, w, timesteps, context, length};
  workspace_.run(kernels_, cancel, [&](Run& run) { to_planar(run, forward(run, input), out); });
}

size_t Unet::working_bytes(int64_t n, int64_t h, int64_t w, int64_t length) const {
  const Input input{nullptr, n, h, w, nullptr, nullptr, length};
  return Workspace::measure(kernels_, [&](Run& run) { forward(run, input); });
}

}  // namespace nd
