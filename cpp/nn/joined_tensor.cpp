#include "nn/joined_tensor.h"

#include "nn/backend.h"

namespace nd {

Tensor JoinedTensor::concatenated(ForwardContext& ctx) const {
  return ctx.backend.concat(ctx, first(), second());
}

Tensor JoinedTensor::take_concatenated(ForwardContext& ctx) {
  Tensor both = concatenated(ctx);
  release();
  return both;
}

}  // namespace nd
