#include "vae/coder.h"

#include <utility>

namespace nd {
namespace {

Conv2dOptions pointwise() {
  Conv2dOptions options;
  options.kernel = 1;
  options.pad_before = options.pad_after = 0;
  return options;
}

}  // namespace

MiddleBlock::MiddleBlock(Loader& loader, const std::string& prefix, const VaeConfig& config)
    : attends_(config.mid_attention) {
  const int64_t channels = config.block_channels.back();
  first_ = ResBlock(loader, prefix + ".resnets.0", channels, channels, config.norm_groups, kVaeNormEps);
  if (attends_) {
    AttentionOptions options;
    options.width = options.head_dim = channels;
    options.projection_bias = true;
    norm_ = GroupNorm(loader, prefix + ".attentions.0.group_norm", channels, config.norm_groups, kVaeNormEps);
    attention_ = Attention(loader, prefix + ".attentions.0", options);
  }
  second_ = ResBlock(loader, prefix + ".resnets.1", channels, channels, config.norm_groups, kVaeNormEps);
}

Feature MiddleBlock::forward(Run& run, Feature x) const {
  x = first_.forward(run, std::move(x), nullptr);
  if (attends_) x = attention_.forward_onto(run, norm_, std::move(x));
  return second_.forward(run, std::move(x), nullptr);
}

Encoder::Encoder(Loader& loader, const VaeConfig& config) {
  int64_t channels = config.block_channels[0];
  conv_in_ = Conv2d(loader, "encoder.conv_in", config.in_channels, channels);
  for (size_t l = 0; l < config.block_channels.size(); ++l) {
    const std::string prefix = "encoder.down_blocks." + std::to_string(l);
    Level level;
    for (int64_t i = 0; i < config.layers_per_block; ++i) {
      level.blocks.emplace_back(loader, prefix + ".resnets." + std::to_string(i), channels,
                                config.block_channels[l], config.norm_groups, kVaeNormEps);
      channels = config.block_channels[l];
    }
    if (l + 1 < config.block_channels.size()) {
      Conv2dOptions halve;
      halve.stride = 2;
      halve.pad_before = 0;  // the autoencoders pad right and bottom only
      level.downsample.emplace_back(loader, prefix + ".downsamplers.0.conv", channels, channels, halve);
    }
    levels_.push_back(std::move(level));
  }
  middle_ = MiddleBlock(loader, "encoder.mid_block", config);
  norm_out_ = GroupNorm(loader, "encoder.conv_norm_out", channels, config.norm_groups, kVaeNormEps);
  conv_out_ = Conv2d(loader, "encoder.conv_out", channels, config.encoder_channels());
  if (config.quant_conv) {
    quant_.emplace_back(loader, "quant_conv", config.encoder_channels(), config.moment_channels(),
                        pointwise());
  }
}

Chain Encoder::chain() const {
  Chain chain(false);
  chain.add(conv_in_);
  for (const Level& level : levels_) {
    for (const ResBlock& block : level.blocks) chain.add(block);
    for (const Conv2d& downsample : level.downsample) chain.add(downsample);
    chain.end_level();
  }
  return chain;
}

void Encoder::forward(Run& run, const PlanarSource& image, const Plan& plan, float* out) const {
  const Chain chain = this->chain();
  Feature x = plan.banded() ? run_in_bands(run, chain, plan, {}, image, nullptr)
                            : read_planes(run, image, {0, image.side.h});
  x = chain.run(run, {std::move(x), {}}, plan.last, chain.links().size(), nullptr, false).x;
  x = middle_.forward(run, std::move(x));
  x = conv_out_.forward(run, x, &norm_out_);
  for (const Conv2d& quant : quant_) x = quant.forward(run, x);
  write_planes(run, x, 0, {0, x.h}, x.h, out);
}

Decoder::Decoder(Loader& loader, const VaeConfig& config) {
  if (config.post_quant_conv) {
    post_quant_.emplace_back(loader, "post_quant_conv", config.decoded_channels(), config.latent_channels,
                             pointwise());
  }
  int64_t channels = config.block_channels.back();
  conv_in_ = Conv2d(loader, "decoder.conv_in", config.latent_channels, channels);
  middle_ = MiddleBlock(loader, "decoder.mid_block", config);
  const size_t count = config.block_channels.size();
  for (size_t l = 0; l < count; ++l) {
    const std::string prefix = "decoder.up_blocks." + std::to_string(l);
    const int64_t out = config.block_channels[count - 1 - l];
    Level level;
    for (int64_t i = 0; i <= config.layers_per_block; ++i) {
      level.blocks.emplace_back(loader, prefix + ".resnets." + std::to_string(i), channels, out,
                                config.norm_groups, kVaeNormEps);
      channels = out;
    }
    if (l + 1 < count) {
      Conv2dOptions twice;
      twice.upsample = true;
      level.upsample.emplace_back(loader, prefix + ".upsamplers.0.conv", channels, channels, twice);
    }
    levels_.push_back(std::move(level));
  }
  norm_out_ = GroupNorm(loader, "decoder.conv_norm_out", channels, config.norm_groups, kVaeNormEps);
  conv_out_ = Conv2d(loader, "decoder.conv_out", channels, config.out_channels);
}

Chain Decoder::chain() const {
  Chain chain(true);
  const Conv2d* upsample = nullptr;
  for (const Level& level : levels_) {
    // With the level that it leads to: its result is the largest image of all and better not kept.
    if (upsample) chain.add(*upsample);
    for (const ResBlock& block : level.blocks) chain.add(block);
    chain.end_level();
    upsample = level.upsample.empty() ? nullptr : &level.upsample.front();
  }
  chain.add(conv_out_, &norm_out_);
  return chain;
}

// The whole image at once, at 512×512 with the SD 1.5 widths, needs most at the last level's first block: 256
// channels in (268 MB) and 128 hidden, together 403 MB; its shortcut and its result are written over its
// input.
void Decoder::forward(Run& run, const PlanarSource& latents, const Plan& plan, float* out) const {
  Feature x = read_planes(run, latents, {0, latents.side.h});
  for (const Conv2d& post_quant : post_quant_) x = post_quant.forward(run, x);
  x = conv_in_.forward(run, x);
  x = middle_.forward(run, std::move(x));
  const Chain chain = this->chain();
  const size_t whole = plan.banded() ? plan.first : chain.links().size();
  x = chain.run(run, {std::move(x), {}}, 0, whole, nullptr, false).x;
  if (plan.banded())
    run_in_bands(run, chain, plan, std::move(x), {}, out);
  else
    write_planes(run, x, 0, {0, x.h}, x.h, out);
}

}  // namespace nd
