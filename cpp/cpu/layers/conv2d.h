// Convolution as an implicit matrix product over padded bands of rows. There is no im2col buffer, and the
// group normalization and SiLU before the layer are applied while a band is copied, so that the normalized
// activations never exist as a whole.
#pragma once
#include <optional>
#include <vector>

#include "cpu/layers/linear.h"
#include "cpu/layers/winograd.h"

namespace nd::cpu {

class Conv2d final : public nd::Conv2d {
 public:
  Conv2d(const Device& device, Loader& loader, Conv2dWeights weights, const Conv2dOptions& options);

  Tensor forward(ForwardContext& ctx, const Tensor& x, const nd::GroupNorm* norm,
                 const Epilogue& epilogue) const override;
  Tensor forward_onto(ForwardContext& ctx, const Tensor& x, const nd::GroupNorm* norm,
                      Tensor residual) const override;
  Tensor forward_with(ForwardContext& ctx, const Tensor& x, const Tensor& factors,
                      const Epilogue& epilogue) const override;
  Tensor forward_onto_with(ForwardContext& ctx, const Tensor& x, const Tensor& factors, Tensor residual,
                           bool relu) const override;
  Tensor forward_in_place(ForwardContext& ctx, Tensor x) const override;
  Tensor upsample(ForwardContext& ctx, const Tensor& x, int64_t height, int64_t width) const override;

 private:
  /// `out` is allocated if it is empty.
  void convolve(Context& ctx, const Tensor& x, const Tensor& factors, const Epilogue& epilogue,
                Tensor& out) const;
  /// Corrects a doubled image that has to be a row or column smaller.
  Tensor crop(Context& ctx, const Tensor& x, const Tensor& doubled, int64_t height, int64_t width) const;

  // One of these three computes the layer.
  std::optional<Linear> pointwise_;   // kernel 1 and stride 1
  std::optional<Winograd> winograd_;  // kernel 3 and stride 1, if the precision policy says so
  PackedMatrix weights_;              // one plane; four (row parity, column parity) when upsampling
  std::vector<float> bias_;
};

}  // namespace nd::cpu
