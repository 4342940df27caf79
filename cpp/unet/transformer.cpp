#include "unet/transformer.h"

#include <utility>

namespace nd {
namespace {

constexpr float kGroupNormEps = 1e-6f;  // not the ResBlocks' normEps: the transformer has always had its own
constexpr float kLayerNormEps = 1e-5f;
constexpr int64_t kExpansion = 4;  // of the feed-forward network

AttentionOptions attention_options(const TransformerOptions& options, int64_t context_width) {
  AttentionOptions result;
  result.width = options.channels;
  result.context_width = context_width;
  result.heads = options.heads;
  result.head_dim = options.channels / options.heads;
  return result;
}

/// The inputs of queries, keys and values, one after the other; with fewer tokens where they are merged.
Tensor changed_inputs(ForwardContext& ctx, const InputChanges& changes, const Tensor& normed,
                      const TokenMerge* merge) {
  Tensor inputs;
  for (int p = 0; p < 3; ++p) {
    Tensor input = changes.apply(ctx, static_cast<Projection>(p), normed);
    if (merge) input = merge->merge(ctx, input);
    if (!inputs) inputs = Tensor(ctx, 3 * input.n, input.h, input.w, input.c);
    if (!ctx.measuring()) ctx.backend.copy_rows(ctx, input, 0, inputs, p * input.rows(), input.rows());
  }
  return inputs;
}

}  // namespace

TransformerBlock::TransformerBlock(Loader& loader, const std::string& prefix,
                                   const TransformerOptions& options)
    : only_cross_(options.only_cross_attention) {
  const int64_t channels = options.channels;
  norm1_ = loader.layer_norm(prefix + ".norm1", channels, kLayerNormEps);
  norm2_ = loader.layer_norm(prefix + ".norm2", channels, kLayerNormEps);
  norm3_ = loader.layer_norm(prefix + ".norm3", channels, kLayerNormEps);
  first_ = loader.attention(prefix + ".attn1",
                            attention_options(options, only_cross_ ? options.context_width : 0));
  cross_ = loader.attention(prefix + ".attn2", attention_options(options, options.context_width));
  feed_forward_ =
      loader.feed_forward(prefix + ".ff.net.0.proj", prefix + ".ff.net.2", channels, kExpansion * channels);
}

Tensor TransformerBlock::self_attention(ForwardContext& ctx, Tensor x, double merging,
                                        const InputChanges& changes) const {
  const std::unique_ptr<TokenMerge> merge = merging > 0 ? ctx.backend.merge_tokens(ctx, x, merging) : nullptr;
  const bool changed =
      changes.any(Projection::queries) || changes.any(Projection::keys) || changes.any(Projection::values);
  if (!merge && !changed) return first_->forward_normed(ctx, *norm1_, x, &x);
  Tensor normed = norm1_->forward(ctx, x);
  if (changed) {
    const Tensor inputs = changed_inputs(ctx, changes, normed, merge.get());
    normed.release();
    if (!merge) return first_->forward_apart(ctx, inputs, &x);
    merge->unmerge_onto(ctx, first_->forward_apart(ctx, inputs, nullptr), x);
    return x;
  }
  const Tensor fewer = merge->merge(ctx, normed);
  normed.release();
  merge->unmerge_onto(ctx, first_->forward(ctx, fewer, nullptr), x);
  return x;
}

size_t TransformerBlock::packed_bytes(int64_t length) const {
  return (only_cross_ ? first_->packed_bytes(length) : 0) + cross_->packed_bytes(length);
}

void TransformerBlock::pack(ForwardContext& ctx, const Tensor& context, const Address* images,
                            size_t offset) const {
  if (only_cross_) {
    first_->pack(ctx, context, images, offset);
    offset += first_->packed_bytes(context.pixels());
  }
  cross_->pack(ctx, context, images, offset);
}

Tensor TransformerBlock::forward(ForwardContext& ctx, Tensor x, PackedContext context,
                                 const std::vector<AddedContext>& added, double merging,
                                 const InputChanges& changes) const {
  if (only_cross_) {
    x = first_->forward_normed(ctx, *norm1_, x, context, {}, &x);
    context.offset += first_->packed_bytes(context.length);
  } else {
    x = self_attention(ctx, std::move(x), merging, changes);
  }
  if (changes.any(Projection::cross_queries)) {
    Tensor normed = norm2_->forward(ctx, x);
    normed = changes.apply(ctx, Projection::cross_queries, normed);
    x = cross_->forward(ctx, normed, context, added, &x);
  } else {
    x = cross_->forward_normed(ctx, *norm2_, x, context, added, &x);
  }
  feed_forward_->add_normed_to(ctx, *norm3_, x);
  return x;
}

SpatialTransformer::SpatialTransformer(Loader& loader, const std::string& prefix,
                                       const TransformerOptions& options) {
  LinearOptions projection;
  projection.role = options.projections;
  norm_ = loader.group_norm(prefix + ".norm", options.channels, options.norm_groups, kGroupNormEps);
  // 1×1 convolutions in SD 1, linear layers in SD 2: in NHWC both are the same product.
  in_ = loader.linear(prefix + ".proj_in", options.channels, options.channels, projection);
  for (int64_t i = 0; i < options.depth; ++i)
    blocks_.emplace_back(loader, prefix + ".transformer_blocks." + std::to_string(i), options);
  projection.feeds_group_norm = true;
  out_ = loader.linear(prefix + ".proj_out", options.channels, options.channels, projection);
}

size_t SpatialTransformer::packed_bytes(int64_t length) const {
  size_t bytes = 0;
  for (const TransformerBlock& block : blocks_) bytes += block.packed_bytes(length);
  return bytes;
}

void SpatialTransformer::pack(ForwardContext& ctx, const Tensor& context, const Address* images,
                              size_t offset) const {
  for (const TransformerBlock& block : blocks_) {
    block.pack(ctx, context, images, offset);
    offset += block.packed_bytes(context.pixels());
  }
}

Tensor SpatialTransformer::forward(ForwardContext& ctx, Tensor x, PackedContext context,
                                   const AttendedImages& images, double merging, InputChanges changes) const {
  Tensor hidden = in_->forward_normed(ctx, *norm_, x);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const TransformerBlock& block = blocks_[i];
    const std::vector<AddedContext> added = images.contexts(i, hidden, hidden.c);
    hidden = block.forward(ctx, std::move(hidden), context, added, merging, changes);
    ++changes.block;
    context.offset += block.packed_bytes(context.length);
  }
  Epilogue residual;
  residual.residual = &x;
  return out_->forward(ctx, hidden, residual);
}

}  // namespace nd
