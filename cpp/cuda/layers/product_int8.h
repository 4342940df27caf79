// Products of int8: q8_0 weights as the kernels want them, and activations that are made int8 before.
#pragma once
#include "cuda/layers/int8_tensor.h"
#include "cuda/layers/product.h"
#include "cuda/layers/product_plan.h"

namespace nd::cuda {

/// Whether these weights, of rows [taps][in], can be multiplied as int8: q8_0 whose blocks run along the
/// channels.
bool holds_int8(const StoredBlocks& stored, int64_t in);

/// The codes of all tensors, which follow one another, then their scales.
Buffer codes_and_scales(Device& device, Loader& loader, const StoredBlocks& stored);

void quantize(Context& ctx, const Tensor& x, const Int8Tensor& to);

/// Their product with x, of which args has the shapes.
void launch_int8(Context& ctx, const ProductArgs& args, const ProductPlan& plan, const Int8Tensor& x,
                 Address codes, const half* scales);

}  // namespace nd::cuda
