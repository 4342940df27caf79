// Multi-head attention (Vaswani et al. 2017) with its projections.
#pragma once
#include <vector>

#include "cpu/layers/linear.h"

namespace nd::cpu {

class Attention final : public nd::Attention {
 public:
  Attention(const Device& device, Loader& loader, AttentionWeights weights, const AttentionOptions& options);

  Tensor forward(ForwardContext& base, const Tensor& x, const Tensor* residual) const override;
  Tensor forward_apart(ForwardContext& base, const Tensor& inputs, const Tensor* residual) const override;
  Tensor forward(ForwardContext& base, const Tensor& x, const PackedContext& context,
                 const std::vector<AddedContext>& added, const Tensor* residual) const override;
  /// Queries are computed in bands, so that only keys and values exist for all of x. This saves 670 MB at
  /// 256×256 pixels of 512 channels.
  Tensor forward_onto(ForwardContext& base, const nd::GroupNorm& norm, Tensor x) const override;

  size_t packed_bytes(int64_t length) const override;
  void pack(ForwardContext& base, const Tensor& context, const Address* images, size_t offset) const override;

 private:
  int64_t inner() const { return options_.inner(); }
  /// For keys and values side by side, in rows of `ld` floats.
  AttentionArgs arguments(const float* keys_and_values, int64_t ld, int64_t length) const;
  /// Self-attention by `args`, whose keys and values are not packed yet. The result has the n, h and w of
  /// `shape`.
  Tensor mix_own(Context& ctx, const Tensor& shape, const AttentionArgs& args) const;
  /// softmax(scale·q·kᵀ)·v of all heads; packed(image) gives the packed keys and values of an image.
  template <class Packed>
  Tensor mix_values(Context& ctx, const Tensor& x, const AttentionArgs& args, const Packed& packed) const;

  /// Adds to what x attends to by these queries.
  void attend_to(Context& ctx, const AddedContext& added, const Tensor& x, const Tensor& q,
                 const Tensor& mixed) const;

  AttentionOptions options_;
  Compute compute_ = Compute::f32;
  AttentionKernel kernel_{};
  Linear qkv_;     // self-attention: q, k, v side by side
  Linear q_, kv_;  // cross-attention
  Linear out_;
};

}  // namespace nd::cpu
