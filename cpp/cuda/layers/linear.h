// The linear layer, and two of them with a gate between.
#pragma once
#include "cuda/layers/product.h"

namespace nd::cuda {

class Linear final : public nd::Linear {
 public:
  Linear() = default;
  Linear(Device& device, Loader& loader, LinearWeights weights, const LinearOptions& options);

  Tensor forward(ForwardContext& ctx, const Tensor& x, const Epilogue& epilogue = {}) const override;
  Tensor forward_normed(ForwardContext& ctx, const nd::GroupNorm& norm, const Tensor& x) const override;
  Tensor forward_normed(ForwardContext& ctx, const nd::LayerNorm& norm, const Tensor& x) const;
  Tensor forward_in_place(ForwardContext& ctx, Tensor x) const override;
  /// The same, written to y, which may be the residual.
  void forward_to(ForwardContext& ctx, const Tensor& x, const Epilogue& epilogue, const Tensor& y) const;

 private:
  Tensor output(ForwardContext& ctx, const Tensor& x) const;
  ProductCall call(const Tensor& x, const Tensor& y) const;

  Product product_;
  float scale_ = 1;  // of its sums
  bool feeds_group_norm_ = false;
};

class FeedForward final : public nd::FeedForward {
 public:
  FeedForward(Device& device, Loader& loader, LinearWeights in, LinearWeights out);
  void add_to(ForwardContext& ctx, const Tensor& normed, const Tensor& x) const override;
  void add_normed_to(ForwardContext& ctx, const nd::LayerNorm& norm, const Tensor& x) const override;

 private:
  void add_hidden(ForwardContext& ctx, const Tensor& hidden, const Tensor& x) const;

  Linear in_, out_;
};

}  // namespace nd::cuda
