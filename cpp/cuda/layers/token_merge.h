// Token merging (Bolya & Hoffman 2023): attention over fewer tokens.
#pragma once
#include "cuda/context.h"
#include "nn/layers.h"

namespace nd::cuda {

/// Merges the same tokens as nd::cpu::TokenMerge does, unless two similarities differ by rounding alone.
class TokenMerge final : public nd::TokenMerge {
 public:
  /// Matches the tokens of x [n][h][w][c] by their features. merged_tokens(h, w, ratio) must be above 0.
  TokenMerge(Context& ctx, const Tensor& x, double ratio);

  Tensor merge(ForwardContext& base, const Tensor& x) const override;
  void unmerge_onto(ForwardContext& base, const Tensor& merged, const Tensor& x) const override;

 private:
  int64_t merged_, tokens_;  // of an image
  Scratch<int32_t> row_;     // [n][h·w] the row that each token becomes a part of
  Scratch<int32_t> kept_;    // [n][tokens] the token of each row that was not merged
};

}  // namespace nd::cuda
