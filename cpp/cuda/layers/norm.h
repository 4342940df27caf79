// Group and layer normalization.
#pragma once
#include <memory>

#include "cuda/layers/int8_tensor.h"
#include "cuda/layers/moments.h"
#include "cuda/layers/product.h"
#include "nn/layers.h"
#include "nn/weights.h"

namespace nd::cuda {

/// factors: [n][2][c] float32 in an fp16 tensor of twice that size, as GroupNorm::affine gives them.
Tensor apply_affine(ForwardContext& ctx, const Tensor& x, const Tensor& factors, bool silu);
/// The same, written over x.
Tensor apply_affine_onto(ForwardContext& ctx, Tensor x, const Tensor& factors, bool silu);

class ChannelMoments final : public nd::ChannelMoments {
 public:
  void add(ForwardContext& base, const Tensor& x, int64_t first, int64_t rows) override;
  const float* moments() const { return total_->data(); }

 private:
  std::unique_ptr<Scratch<float>> total_;  // [3][c]
};

class GroupNorm final : public nd::GroupNorm {
 public:
  GroupNorm(const Device& device, Loader& loader, const NormWeights& weights, int64_t groups, float eps)
      : gamma_(Buffer::of(device, loader, weights.gamma)),
        beta_(Buffer::of(device, loader, weights.beta)),
        channels_(static_cast<int64_t>(weights.gamma.size())),
        groups_(groups),
        eps_(eps) {}

  Tensor affine(ForwardContext& base, const Tensor& x) const override;
  Tensor affine(ForwardContext& ctx, const nd::ChannelMoments& image) const override;
  Tensor forward(ForwardContext& base, const Tensor& x, bool silu) const override;
  Tensor modulated(ForwardContext& base, const Tensor& x, const Tensor& modulations, int64_t first_channel,
                   Activation activation) const override;
  Tensor forward_joined(ForwardContext& base, const JoinedTensor& x, bool silu) const override;
  Tensor modulated_joined(ForwardContext& base, const JoinedTensor& x, const Tensor& modulations,
                          int64_t first_channel, Activation activation) const override;
  /// What forward() would return as int8, bit for bit as quantize() would make it of that.
  void forward_int8(Context& ctx, const Tensor& x, const Int8Tensor& y, bool silu) const;
  /// The channels of the first part must be a multiple of 8.
  void forward_joined_int8(Context& ctx, const JoinedTensor& x, const Int8Tensor& y, bool silu) const;

 private:
  // Of inputs that have images, rows and columns as `shape`.
  Tensor factors(Context& ctx, const NormInputs& x, int64_t n) const;
  Tensor output(ForwardContext& ctx, const Tensor& shape) const;
  /// To y, or where that is null to int8.
  void normalize(Context& ctx, const Tensor& shape, const NormInputs& x, int64_t max_moments, bool silu,
                 half* y, const Int8Rows& int8) const;
  Tensor modulate(Context& ctx, const Tensor& shape, const NormInputs& x, const Tensor& modulations,
                  int64_t first_channel, Activation activation) const;
  /// How one kernel normalizes images with this many moments at most: channels and rows of a block, and how
  /// many blocks those make of an image.
  struct Cut {
    int64_t channels, slices, rows, bands;
    bool in_one_kernel;  // otherwise two kernels take less time
  };
  Cut cut(const Context& ctx, const Tensor& shape, int64_t max_moments, bool int8) const;

  Buffer gamma_, beta_;
  int64_t channels_, groups_;
  float eps_;
};

class LayerNorm final : public nd::LayerNorm {
 public:
  LayerNorm(const Device& device, Loader& loader, const NormWeights& weights, float eps)
      : gamma_(Buffer::of(device, loader, weights.gamma)),
        beta_(Buffer::of(device, loader, weights.beta)),
        eps_(eps) {}
  Tensor forward(ForwardContext& base, const Tensor& x) const override;
  /// See GroupNorm.
  void forward_int8(Context& ctx, const Tensor& x, const Int8Tensor& y) const;

 private:
  void normalize(Context& ctx, const Tensor& x, half* y, const Int8Rows& int8) const;

  Buffer gamma_, beta_;
  float eps_;
};

/// Products of norm(call.x), through SiLU where `silu` is set. The normalization writes int8 where the
/// product multiplies that.
void run_normed(Context& ctx, const Product& product, const nd::GroupNorm& norm, bool silu, ProductCall call,
                const Epilogue& epilogue);
void run_normed(Context& ctx, const Product& product, const nd::LayerNorm& norm, ProductCall call,
                const Epilogue& epilogue);

}  // namespace nd::cuda
