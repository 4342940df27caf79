// Attention to the image and to the context (Rombach et al. 2022, section 3.3), between two projections.
#pragma once
#include <string>
#include <vector>

#include "nn/attention.h"
#include "nn/linear.h"
#include "nn/norm.h"

namespace nd {

struct TransformerOptions {
  int64_t channels = 0;
  int64_t heads = 1;
  int64_t depth = 1;  // transformer blocks
  int64_t context_width = 0;
  int64_t norm_groups = 32;
  bool sensitive_projections = false;  // into and out of the transformer: never int8
};

/// Self-attention, cross-attention and a gated feed-forward network (Shazeer 2020), each after a layer norm
/// and added to what came in.
class TransformerBlock {
 public:
  TransformerBlock(Loader& loader, const std::string& prefix, const TransformerOptions& options);
  /// x: [n][h][w][channels] → as x. `merging`: share of the tokens that self-attention leaves out, see
  /// TokenMerge.
  Feature forward(Run& run, Feature x, const PackedContext& context, double merging) const;
  const Attention& cross() const { return cross_; }

 private:
  Feature attend_to_itself(Run& run, Feature x, double merging) const;

  LayerNorm norm1_, norm2_, norm3_;
  Attention self_, cross_;
  Linear gate_, out_;
};

class SpatialTransformer {
 public:
  SpatialTransformer(Loader& loader, const std::string& prefix, const TransformerOptions& options);
  /// x: [n][h][w][channels] → as x. The context's keys and values as pack() left them.
  Feature forward(Run& run, Feature x, PackedContext context, double merging) const;

  /// Floats of the keys and values that all blocks have of one image's context.
  int64_t packed_floats(const Kernels& table, int64_t length) const;
  /// Those of context [n][1][length][context_width]; image i's go to images[i] + offset.
  void pack(Run& run, const Feature& context, float* const* images, int64_t offset) const;

 private:
  GroupNorm norm_;
  Linear in_, out_;
  std::vector<TransformerBlock> blocks_;
};

}  // namespace nd
