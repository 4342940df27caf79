#include "unet/transformer.h"

#include <utility>

#include "nn/token_merge.h"

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

LinearOptions projection(const TransformerOptions& options) {
  LinearOptions result;
  result.sensitive = options.sensitive_projections;
  return result;
}

}  // namespace

TransformerBlock::TransformerBlock(Loader& loader, const std::string& prefix,
                                   const TransformerOptions& options)
    : norm1_(loader, prefix + ".norm1", options.channels, kLayerNormEps),
      norm2_(loader, prefix + ".norm2", options.channels, kLayerNormEps),
      norm3_(loader, prefix + ".norm3", options.channels, kLayerNormEps),
      self_(loader, prefix + ".attn1", attention_options(options, 0)),
      cross_(loader, prefix + ".attn2", attention_options(options, options.context_width)) {
  LinearOptions geglu;
  geglu.geglu = true;
  const int64_t inner = kExpansion * options.channels;
  gate_ = Linear(loader, prefix + ".ff.net.0.proj", options.channels, 2 * inner, geglu);
  out_ = Linear(loader, prefix + ".ff.net.2", inner, options.channels);
}

Feature TransformerBlock::attend_to_itself(Run& run, Feature x, double merging) const {
  Feature normed = norm1_.forward(run, x);
  if (TokenMerge::merged(x.h, x.w, merging) == 0) return self_.forward(run, normed, &x);
  const TokenMerge merge(run, x, merging);
  const Feature fewer = merge.merge(run, normed);
  normed.release();
  merge.unmerge_onto(run, self_.forward(run, fewer, nullptr), x);
  return x;
}

Feature TransformerBlock::forward(Run& run, Feature x, const PackedContext& context, double merging) const {
  x = attend_to_itself(run, std::move(x), merging);
  {
    const Feature normed = norm2_.forward(run, x);
    x = cross_.forward(run, normed, context, &x);
  }
  Linear::add_through(run, gate_, out_, norm3_.forward(run, x), x);
  return x;
}

SpatialTransformer::SpatialTransformer(Loader& loader, const std::string& prefix,
                                       const TransformerOptions& options)
    : norm_(loader, prefix + ".norm", options.channels, options.norm_groups, kGroupNormEps),
      // 1×1 convolutions in SD 1, linear layers in SD 2: in NHWC both are the same product.
      in_(loader, prefix + ".proj_in", options.channels, options.channels, projection(options)),
      out_(loader, prefix + ".proj_out", options.channels, options.channels, projection(options)) {
  for (int64_t i = 0; i < options.depth; ++i) {
    blocks_.emplace_back(loader, prefix + ".transformer_blocks." + std::to_string(i), options);
  }
}

int64_t SpatialTransformer::packed_floats(const Kernels& table, int64_t length) const {
  int64_t floats = 0;
  for (const TransformerBlock& block : blocks_) floats += block.cross().packed_floats(table, length);
  return floats;
}

void SpatialTransformer::pack(Run& run, const Feature& context, float* const* images, int64_t offset) const {
  for (const TransformerBlock& block : blocks_) {
    block.cross().pack(run, context, images, offset);
    offset += block.cross().packed_floats(run.kernels, context.pixels());
  }
}

Feature SpatialTransformer::forward(Run& run, Feature x, PackedContext context, double merging) const {
  Feature normed = norm_.forward(run, x);
  Feature hidden = in_.forward(run, normed);
  normed.release();
  for (const TransformerBlock& block : blocks_) {
    hidden = block.forward(run, std::move(hidden), context, merging);
    context.offset += block.cross().packed_floats(run.kernels, context.length);
  }
  Fuse residual;
  residual.residual = &x;
  return out_.forward(run, hidden, residual);
}

}  // namespace nd
