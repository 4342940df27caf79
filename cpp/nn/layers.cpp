// Layers of normalized tensors, for backends that do not fuse the two.
#include "nn/layers.h"

#include <utility>

namespace nd {

Tensor Linear::forward_normed(ForwardContext& ctx, const GroupNorm& norm, const Tensor& x) const {
  return forward(ctx, norm.forward(ctx, x));
}

void FeedForward::add_normed_to(ForwardContext& ctx, const LayerNorm& norm, const Tensor& x) const {
  add_to(ctx, norm.forward(ctx, x), x);
}

// NOLINTNEXTLINE(performance-unnecessary-value-param): it is released here
Tensor Conv2d::forward_joined_normed(ForwardContext& ctx, JoinedTensor x, const GroupNorm& norm,
                                     const Epilogue& epilogue) const {
  const Tensor normed = norm.forward_joined(ctx, x, true);
  x.release();
  return forward(ctx, normed, nullptr, epilogue);
}

Tensor Attention::forward_normed(ForwardContext& ctx, const LayerNorm& norm, const Tensor& x,
                                 const Tensor* residual) const {
  return forward(ctx, norm.forward(ctx, x), residual);
}

Tensor Attention::forward_normed(ForwardContext& ctx, const LayerNorm& norm, const Tensor& x,
                                 const PackedContext& context, const std::vector<AddedContext>& added,
                                 const Tensor* residual) const {
  return forward(ctx, norm.forward(ctx, x), context, added, residual);
}

}  // namespace nd
