// Convolution as an implicit GEMM.
#pragma once
#include "cuda/layers/product.h"

namespace nd::cuda {

class Conv2d final : public nd::Conv2d {
 public:
  Conv2d(Device& device, Loader& loader, Conv2dWeights weights, const Conv2dOptions& options);

  Tensor forward(ForwardContext& ctx, const Tensor& x, const nd::GroupNorm* norm,
                 const Epilogue& epilogue) const override;
  Tensor forward_joined(ForwardContext& ctx, const JoinedTensor& x) const override;
  Tensor forward_joined_normed(ForwardContext& base, JoinedTensor x, const nd::GroupNorm& norm,
                               const Epilogue& epilogue) const override;
  Tensor forward_onto(ForwardContext& ctx, const Tensor& x, const nd::GroupNorm* norm,
                      Tensor residual) const override;
  Tensor forward_with(ForwardContext& ctx, const Tensor& x, const Tensor& factors,
                      const Epilogue& epilogue) const override;
  Tensor forward_onto_with(ForwardContext& ctx, const Tensor& x, const Tensor& factors, Tensor residual,
                           bool relu) const override;
  Tensor forward_in_place(ForwardContext& ctx, Tensor x) const override;
  Branches forward_branches(ForwardContext& ctx, Tensor x, const Tensor& factors, const nd::Conv2d* shortcut,
                            const Epilogue& epilogue) const override;
  Tensor upsample(ForwardContext& ctx, const Tensor& x, int64_t height, int64_t width) const override;

 private:
  /// Without memory.
  Tensor output_shape(const Tensor& x) const;
  Tensor output(ForwardContext& ctx, const Tensor& x) const;
  bool pointwise() const { return options().kernel == 1 && options().stride == 1; }
  ProductCall call(const Tensor& x, const Tensor& y) const;
  /// With `norm`, what is convolved is SiLU(norm(x)).
  void convolve(ForwardContext& ctx, const Tensor& x, const nd::GroupNorm* norm, const Epilogue& epilogue,
                const Tensor& y) const;
  void subtract_beyond(ForwardContext& ctx, const Tensor& x, const Tensor& y, bool row, bool column) const;

  Product product_;
  float scale_;  // of its sums
};

}  // namespace nd::cuda
