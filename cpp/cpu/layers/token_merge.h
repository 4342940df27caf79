// Token merging (Bolya & Hoffman 2023, "Token Merging for Fast Stable Diffusion"): attention over fewer
// tokens, alike ones being replaced by their mean.
#pragma once
#include <cstdint>

#include "cpu/context.h"
#include "nn/layers.h"

namespace nd::cpu {

/// Which tokens of each image are merged, by bipartite soft matching: the upper left token of each 2×2 window
/// is a destination, all others are sources; the sources most like a destination (by the cosine of their
/// features) are merged into the one that they are most like. (The paper draws the window's token at random;
/// a fixed one keeps a seed's picture the same.) Equally good matches are decided by the order of the tokens,
/// so the result depends on nothing else.
class TokenMerge final : public nd::TokenMerge {
 public:
  /// Sources that are merged among the tokens of an image: ⌊ratio · h · w⌋, or all of them.
  static int64_t merged(int64_t h, int64_t w, double ratio);

  /// Matches the tokens of x [n][h][w][c] by their features. merged(h, w, ratio) must be above 0.
  TokenMerge(Context& ctx, const Tensor& x, double ratio);

  /// Tokens of an image that are left.
  int64_t tokens() const { return tokens_; }
  /// x [n][h][w][c] → [n][1][tokens][c]: the means, in the order of the tokens that are left.
  Tensor merge(ForwardContext& ctx, const Tensor& x) const override;
  /// Adds to each token of x the row of `merged` that it became a part of.
  void unmerge_onto(ForwardContext& ctx, const Tensor& merged, const Tensor& x) const override;

 private:
  struct Matches;
  void match(Context& ctx, const Tensor& x, const Matches& matches) const;
  void number(Context& ctx, const Matches& matches) const;

  int64_t images_, pixels_, merged_, tokens_;
  Scratch<int32_t> row_;     // [n][h·w] row of `merged` that a token becomes a part of
  Scratch<int32_t> begin_;   // [n][tokens + 1] where a row's members begin in
  Scratch<int32_t> member_;  // [n][h·w] tokens by row, in their own order
};

}  // namespace nd::cpu
