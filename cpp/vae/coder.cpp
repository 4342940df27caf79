#include "vae/coder.h"

#include <utility>

namespace nd {
namespace {

// What flows from block to block is wide (see Conv2dOptions): nothing but the next normalization limits it.

Conv2dOptions into_wide() {
  Conv2dOptions options;
  options.wide_output = options.feeds_group_norm = true;
  return options;
}

Conv2dOptions between_wide() {
  Conv2dOptions options = into_wide();
  options.wide_input = true;
  return options;
}

ResBlockOptions block_options(const VaeConfig& config, int64_t in, int64_t out) {
  ResBlockOptions options;
  options.in = in;
  options.out = out;
  options.norm_groups = config.norm_groups;
  options.norm_eps = kVaeNormEps;
  options.wide = true;
  return options;
}

}  // namespace

MiddleBlock::MiddleBlock(Loader& loader, const std::string& prefix, const VaeConfig& config) {
  const int64_t channels = config.block_channels.back();
  first_ = ResBlock(loader, prefix + ".resnets.0", block_options(config, channels, channels));
  if (config.mid_attention) {
    AttentionOptions options;
    options.width = options.head_dim = channels;
    options.projection_bias = options.wide_output = options.feeds_group_norm = true;
    norm_ = loader.group_norm(prefix + ".attentions.0.group_norm", channels, config.norm_groups, kVaeNormEps,
                              true);
    attention_ = loader.attention(prefix + ".attentions.0", options);
  }
  second_ = ResBlock(loader, prefix + ".resnets.1", block_options(config, channels, channels));
}

Tensor MiddleBlock::forward(ForwardContext& ctx, Tensor x) const {
  x = first_.forward(ctx, std::move(x), nullptr);
  if (attention_) x = attention_->forward_onto(ctx, *norm_, std::move(x));
  return second_.forward(ctx, std::move(x), nullptr);
}

Encoder::Encoder(Loader& loader, const VaeConfig& config) {
  int64_t channels = config.block_channels[0];
  conv_in_ = loader.conv2d("encoder.conv_in", config.in_channels, channels, into_wide());
  for (size_t l = 0; l < config.block_channels.size(); ++l) {
    const std::string prefix = "encoder.down_blocks." + std::to_string(l);
    Level level;
    for (int64_t i = 0; i < config.layers_per_block; ++i) {
      level.blocks.emplace_back(loader, prefix + ".resnets." + std::to_string(i),
                                block_options(config, channels, config.block_channels[l]));
      channels = config.block_channels[l];
    }
    if (l + 1 < config.block_channels.size()) {
      Conv2dOptions halve = between_wide();
      halve.stride = 2;
      halve.pad_before = 0;  // the autoencoders pad right and bottom only
      level.downsample = loader.conv2d(prefix + ".downsamplers.0.conv", channels, channels, halve);
    }
    levels_.push_back(std::move(level));
  }
  middle_ = MiddleBlock(loader, "encoder.mid_block", config);
  norm_out_ = loader.group_norm("encoder.conv_norm_out", channels, config.norm_groups, kVaeNormEps, true);
  conv_out_ = loader.conv2d("encoder.conv_out", channels, config.encoder_channels());
  if (config.quant_conv) {
    quant_ = loader.conv2d("quant_conv", config.encoder_channels(), config.moment_channels(),
                           Conv2dOptions::pointwise());
  }
}

Chain Encoder::chain() const {
  Chain chain(false);
  chain.add(conv_in_.get());
  for (const Level& level : levels_) {
    for (const ResBlock& block : level.blocks) chain.add(block);
    if (level.downsample) chain.add(level.downsample.get());
    chain.end_level();
  }
  return chain;
}

void Encoder::forward(ForwardContext& ctx, const PlanarSource& image, const Plan& plan, float* out) const {
  const Chain chain = this->chain();
  Tensor x = plan.banded() ? run_in_bands(ctx, chain, plan, {}, image, nullptr)
                           : ctx.backend.read_planes(ctx, image, {0, image.shape.h});
  x = chain.run(ctx, {std::move(x), {}}, plan.last, chain.links().size(), nullptr, false).x;
  x = middle_.forward(ctx, std::move(x));
  x = conv_out_->forward(ctx, x, norm_out_.get());
  if (quant_) x = quant_->forward(ctx, x);
  ctx.backend.write_planes(ctx, x, 0, {0, x.h}, {out, x.h});
}

Decoder::Decoder(Loader& loader, const VaeConfig& config) {
  if (config.post_quant_conv) {
    post_quant_ = loader.conv2d("post_quant_conv", config.decoded_channels(), config.latent_channels,
                                Conv2dOptions::pointwise());
  }
  int64_t channels = config.block_channels.back();
  conv_in_ = loader.conv2d("decoder.conv_in", config.latent_channels, channels, into_wide());
  middle_ = MiddleBlock(loader, "decoder.mid_block", config);
  const size_t count = config.block_channels.size();
  for (size_t l = 0; l < count; ++l) {
    const std::string prefix = "decoder.up_blocks." + std::to_string(l);
    const int64_t out = config.block_channels[count - 1 - l];
    Level level;
    for (int64_t i = 0; i <= config.layers_per_block; ++i) {
      level.blocks.emplace_back(loader, prefix + ".resnets." + std::to_string(i),
                                block_options(config, channels, out));
      channels = out;
    }
    if (l + 1 < count) {
      Conv2dOptions twice = between_wide();
      twice.upsample = true;
      level.upsample = loader.conv2d(prefix + ".upsamplers.0.conv", channels, channels, twice);
    }
    levels_.push_back(std::move(level));
  }
  norm_out_ = loader.group_norm("decoder.conv_norm_out", channels, config.norm_groups, kVaeNormEps, true);
  conv_out_ = loader.conv2d("decoder.conv_out", channels, config.out_channels);
}

Chain Decoder::chain() const {
  Chain chain(true);
  const Conv2d* upsample = nullptr;
  for (const Level& level : levels_) {
    // The upsampling belongs to the level that it leads to: its result is the largest image and need not be
    // stored.
    if (upsample) chain.add(upsample);
    for (const ResBlock& block : level.blocks) chain.add(block);
    chain.end_level();
    upsample = level.upsample.get();
  }
  chain.add(conv_out_.get(), norm_out_.get());
  return chain;
}

// On the whole image, at 512×512 with the widths of SD 1.5, memory peaks in the first block of the last
// level: 256 channels in (268 MB) and 128 hidden, together 403 MB. Its shortcut and its result overwrite its
// input.
// NOLINTNEXTLINE(readability-non-const-parameter): PlanarTarget writes there
void Decoder::forward(ForwardContext& ctx, const PlanarSource& latents, const Plan& plan, float* out) const {
  Tensor x = ctx.backend.read_planes(ctx, latents, {0, latents.shape.h});
  if (post_quant_) x = post_quant_->forward(ctx, x);
  x = conv_in_->forward(ctx, x);
  x = middle_.forward(ctx, std::move(x));
  const Chain chain = this->chain();
  const PlanarTarget target{out, chain.shapes({x.h, x.w, x.c}).back().h};
  const size_t whole = plan.banded() ? plan.first : chain.links().size();
  x = chain.run(ctx, {std::move(x), {}}, 0, whole, nullptr, false).x;
  if (plan.banded())
    // While memory is measured there is no image to write to; a plan is then charged for one.
    run_in_bands(ctx, chain, plan, std::move(x), {}, out ? &target : nullptr);
  else
    ctx.backend.write_planes(ctx, x, 0, {0, x.h}, target);
}

}  // namespace nd
