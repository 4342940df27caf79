// Attention to the image and to the context (Rombach et al. 2022, section 3.3), between two projections.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "nn/loader.h"
#include "unet/image_prompts.h"
#include "unet/input_changes.h"

namespace nd {

struct TransformerOptions {
  int64_t channels = 0;
  int64_t heads = 1;
  int64_t depth = 1;  // transformer blocks
  int64_t context_width = 0;
  int64_t norm_groups = 32;
  Role projections = Role::hidden;    // into and out of the transformer
  bool only_cross_attention = false;  // the first attention has the context, too
};

/// Self-attention, cross-attention and a gated feed-forward network (Shazeer 2020), each after a layer norm
/// and added to what came in. With only_cross_attention, cross-attention twice.
class TransformerBlock {
 public:
  TransformerBlock(Loader& loader, const std::string& prefix, const TransformerOptions& options);
  /// x: [n][h][w][channels] → as x. `added`: what cross-attention attends to beside the context. `merging`:
  /// share of the tokens that are merged before self-attention, see Backend::merge_tokens.
  Tensor forward(ForwardContext& ctx, Tensor x, PackedContext context, const std::vector<AddedContext>& added,
                 double merging, const InputChanges& changes) const;

  /// As those of SpatialTransformer, of this block.
  size_t packed_bytes(int64_t length) const;
  void pack(ForwardContext& ctx, const Tensor& context, const Address* images, size_t offset) const;

 private:
  Tensor self_attention(ForwardContext& ctx, Tensor x, double merging, const InputChanges& changes) const;

  bool only_cross_;
  std::shared_ptr<const LayerNorm> norm1_, norm2_, norm3_;
  std::shared_ptr<const Attention> first_, cross_;
  std::shared_ptr<const FeedForward> feed_forward_;
};

class SpatialTransformer {
 public:
  SpatialTransformer(Loader& loader, const std::string& prefix, const TransformerOptions& options);
  /// x: [n][h][w][channels] → as x. The context's keys and values as pack() left them. `changes` begin with
  /// the first block.
  Tensor forward(ForwardContext& ctx, Tensor x, PackedContext context, const AttendedImages& images,
                 double merging, InputChanges changes) const;

  /// Bytes of the keys and values that all blocks have of one image's context.
  size_t packed_bytes(int64_t length) const;
  /// Those of context [n][1][length][context_width]; image i's go to images[i] + offset.
  void pack(ForwardContext& ctx, const Tensor& context, const Address* images, size_t offset) const;

 private:
  std::shared_ptr<const GroupNorm> norm_;
  std::shared_ptr<const Linear> in_, out_;
  std::vector<TransformerBlock> blocks_;
};

}  // namespace nd
