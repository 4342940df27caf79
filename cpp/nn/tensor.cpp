#include "nn/tensor.h"

#include "nn/backend.h"

namespace nd {

Tensor::Tensor(ForwardContext& ctx, int64_t n, int64_t h, int64_t w, int64_t c)
    : n(n),
      h(h),
      w(w),
      c(c),
      arena_(&ctx.arena),
      address_(ctx.arena.allocate(static_cast<size_t>(n * h * w * c) * ctx.backend.element_bytes())) {}

}  // namespace nd
