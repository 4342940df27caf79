// Multi-head attention (Vaswani et al. 2017) with its projections.
#pragma once
#include <vector>

#include "cuda/layers/linear.h"

namespace nd::cuda {

/// Of the kernels that run everywhere, the smallest one that takes heads of this size.
Kernel attention_kernel(int64_t head_dim);

class Attention final : public nd::Attention {
 public:
  Attention(Device& device, Loader& loader, AttentionWeights weights, const AttentionOptions& options);

  Tensor forward(ForwardContext& base, const Tensor& x, const Tensor* residual) const override;
  Tensor forward_apart(ForwardContext& base, const Tensor& inputs, const Tensor* residual) const override;
  Tensor forward(ForwardContext& base, const Tensor& x, const PackedContext& context,
                 const std::vector<AddedContext>& added, const Tensor* residual) const override;
  Tensor forward_normed(ForwardContext& base, const nd::LayerNorm& norm, const Tensor& x,
                        const Tensor* residual) const override;
  Tensor forward_normed(ForwardContext& base, const nd::LayerNorm& norm, const Tensor& x,
                        const PackedContext& context, const std::vector<AddedContext>& added,
                        const Tensor* residual) const override;
  Tensor forward_onto(ForwardContext& ctx, const nd::GroupNorm& norm, Tensor x) const override;

  /// Keys and values of each token lie side by side, as the projection gives them.
  size_t packed_bytes(int64_t length) const override;
  void pack(ForwardContext& base, const Tensor& context, const Address* images, size_t offset) const override;

 private:
  /// Queries in rows of q; keys of image i begin at keys(i), in rows of ldk fp16 values, and its values
  /// `v_offset` fp16 values behind them.
  template <class Keys>
  Tensor attend(Context& ctx, const Tensor& q, int64_t ldk, int64_t k_length, const Keys& keys,
                int64_t v_offset) const;
  Tensor self(Context& ctx, const Tensor& qkv) const;
  Tensor cross(Context& ctx, const Tensor& q, const PackedContext& context,
               const std::vector<AddedContext>& added) const;
  Tensor project_out(Context& ctx, const Tensor& mixed, const Tensor* residual) const;

  AttentionOptions options_;
  Linear qkv_;     // self-attention: q, k, v side by side
  Linear q_, kv_;  // cross-attention
  Linear out_;
};

}  // namespace nd::cuda
