// Activations as int8, which a normalization writes for a product.
#pragma once
#include "cuda/context.h"

namespace nd::cuda {

/// Codes and scales of as many activations as a tensor has, in the forward's arena.
class Int8Tensor {
 public:
  /// size: of the tensor, whose channels are a multiple of kInt8K.
  Int8Tensor(ForwardContext& ctx, int64_t size) : codes_(ctx, size), scales_(ctx, size / kInt8K) {}
  Int8Rows rows() const { return {codes_.data(), scales_.data()}; }

 private:
  const Scratch<signed char> codes_;
  const Scratch<float> scales_;
};

}  // namespace nd::cuda
