// Token merging (Bolya & Hoffman 2023, "Token Merging for Fast Stable Diffusion"): attention over fewer
// tokens, as similar ones are replaced by their mean.
#pragma once
#include <cstdint>

#include "cpu/context.h"
#include "nn/layers.h"

namespace nd::cpu {

/// Which tokens of each image are merged, by bipartite soft matching. The upper left token of each 2×2 window
/// is a destination, all others are sources. The sources that are most similar to a destination, by the
/// cosine of their features, are merged into it. (The paper draws the destination of a window at random; a
/// fixed one keeps the image of a seed the same.) Ties are broken by the order of the tokens, so that the
/// result is deterministic. Tokens with NaN or infinity are the last to be merged, and nothing is merged into
/// them.
class TokenMerge final : public nd::TokenMerge {
 public:
  /// Matches the tokens of x [n][h][w][c] by their features. merged_tokens(h, w, ratio) must be above 0.
  TokenMerge(Context& ctx, const Tensor& x, double ratio);

  /// Tokens of an image after merging.
  int64_t tokens() const { return tokens_; }
  /// x [n][h][w][c] → [n][1][tokens][c]: the means, in the order of the tokens that were not merged into
  /// others.
  Tensor merge(ForwardContext& base, const Tensor& x) const override;
  /// Adds to each token of x the row of `merged` that it is a part of.
  void unmerge_onto(ForwardContext& base, const Tensor& merged, const Tensor& x) const override;

 private:
  struct Matches;
  void match(Context& ctx, const Tensor& x, const Matches& matches) const;
  void assign_rows(Context& ctx, const Matches& matches) const;

  int64_t images_, pixels_, merged_, tokens_;
  Scratch<int32_t> row_;     // [n][h·w] the row of `merged` that each token is a part of
  Scratch<int32_t> begin_;   // [n][tokens + 1] where the members of each row begin in member_
  Scratch<int32_t> member_;  // [n][h·w] tokens sorted by row
};

}  // namespace nd::cpu
