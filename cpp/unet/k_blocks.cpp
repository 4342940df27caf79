#include "unet/k_blocks.h"

#include <utility>

#include "nn/backend.h"

namespace nd {
namespace {

constexpr float kNormEps = 1e-5f;  // of attention; that of residual blocks is in the configuration

}  // namespace

AdaptiveGroupNorm::AdaptiveGroupNorm(Loader& loader, const std::string& prefix, int64_t channels,
                                     int64_t groups, float eps, ModulationPlaces& places)
    : first_channel_(places.channels), norm_(loader.plain_group_norm(channels, groups, eps)) {
  LinearOptions projection;
  projection.role = Role::time_embedding;
  const OncePerImage rare(loader);  // the scales and shifts of each timestep are cached
  projection_ = loader.linear(prefix + ".linear", places.time_width, 2 * channels, projection);
  places.channels += 2 * channels;
}

KResBlock::KResBlock(Loader& loader, const std::string& prefix, const KResBlockOptions& options,
                     ModulationPlaces& places) {
  const auto [in, middle, out, in_groups, middle_groups, eps, role] = options;
  Conv2dOptions convolution;
  convolution.role = role;
  convolution.feeds_group_norm = true;
  norm1_ = AdaptiveGroupNorm(loader, prefix + ".norm1", in, in_groups, eps, places);
  conv1_ = loader.conv2d(prefix + ".conv1", in, middle, convolution);
  norm2_ = AdaptiveGroupNorm(loader, prefix + ".norm2", middle, middle_groups, eps, places);
  conv2_ = loader.conv2d(prefix + ".conv2", middle, out, convolution);
  if (in != out) {
    Conv2dOptions pointwise = Conv2dOptions::pointwise();
    pointwise.role = Role::shortcut;
    pointwise.bias = false;
    shortcut_ = loader.conv2d(prefix + ".conv_shortcut", in, out, pointwise);
  }
}

Tensor KResBlock::forward(ForwardContext& ctx, Tensor x, const Tensor& modulations) const {
  Tensor hidden = norm1_.forward(ctx, x, modulations, Activation::gelu);
  hidden = conv1_->forward(ctx, hidden);
  hidden = norm2_.forward(ctx, hidden, modulations, Activation::gelu);
  Tensor residual = std::move(x);
  if (shortcut_) residual = shortcut_->forward_last(ctx, std::move(residual));
  return conv2_->forward_onto(ctx, hidden, nullptr, std::move(residual));
}

Tensor KResBlock::forward(ForwardContext& ctx, JoinedTensor x, const Tensor& modulations) const {
  // As in ResBlock.
  if (!shortcut_ || !ctx.backend.reads_joined()) return forward(ctx, x.take_concatenated(ctx), modulations);
  Tensor residual = shortcut_->forward_joined(ctx, x);
  Tensor hidden = norm1_.forward(ctx, x, modulations, Activation::gelu);
  x.release();
  hidden = conv1_->forward(ctx, hidden);
  hidden = norm2_.forward(ctx, hidden, modulations, Activation::gelu);
  return conv2_->forward_onto(ctx, hidden, nullptr, std::move(residual));
}

KAttention::KAttention(Loader& loader, const std::string& prefix, const KAttentionOptions& options,
                       ModulationPlaces& places) {
  AttentionOptions attention;
  attention.width = options.channels;
  attention.heads = options.channels / options.head_width;
  attention.head_dim = options.head_width;
  attention.projection_bias = attention.feeds_group_norm = true;
  if (options.attends_to_image) {
    norm1_ = AdaptiveGroupNorm(loader, prefix + ".norm1", options.channels, options.groups, kNormEps, places);
    self_ = loader.attention(prefix + ".attn1", attention);
  }
  norm2_ = AdaptiveGroupNorm(loader, prefix + ".norm2", options.channels, options.groups, kNormEps, places);
  attention.context_width = options.context_width;
  context_norm_ = loader.layer_norm(prefix + ".attn2.norm_cross", options.context_width, kNormEps);
  cross_ = loader.attention(prefix + ".attn2", attention);
}

Tensor KAttention::forward(ForwardContext& ctx, Tensor x, const Tensor& modulations,
                           const PackedContext& context) const {
  if (self_) {
    const Tensor normed = norm1_.forward(ctx, x, modulations, Activation::none);
    x = self_->forward(ctx, normed, &x);
  }
  const Tensor normed = norm2_.forward(ctx, x, modulations, Activation::none);
  return cross_->forward(ctx, normed, context, {}, &x);
}

void KAttention::pack(ForwardContext& ctx, const Tensor& context, const Address* images,
                      size_t offset) const {
  cross_->pack(ctx, context_norm_->forward(ctx, context), images, offset);
}

}  // namespace nd
