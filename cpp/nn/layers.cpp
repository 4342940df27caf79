// What a backend need not do in a way of its own.
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

Tensor Conv2d::forward_last(ForwardContext& ctx, Tensor x) const {
  return out_ < in_ ? forward_in_place(ctx, std::move(x)) : forward(ctx, x);
}

Conv2d::Branches Conv2d::forward_branches(ForwardContext& ctx, Tensor x, const Tensor& factors,
                                          const Conv2d* shortcut, const Epilogue& epilogue) const {
  Tensor hidden = forward_with(ctx, x, factors, epilogue);
  if (shortcut) x = shortcut->forward_last(ctx, std::move(x));
  return {std::move(hidden), std::move(x)};
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
