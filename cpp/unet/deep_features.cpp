#include "unet/deep_features.h"

#include "nn/backend.h"

namespace nd {

void DeepFeatures::keep(ForwardContext& ctx, const Tensor& x) {
  complete_ = false;
  n_ = x.n, h_ = x.h, w_ = x.w, c_ = x.c;
  bytes_ = static_cast<size_t>(x.size()) * ctx.backend.element_bytes();
  if (ctx.measuring()) return;
  if (memory_ != &ctx.backend.memory()) {
    memory_ = &ctx.backend.memory();
    arena_ = std::make_unique<Arena>(*memory_);
  }
  arena_->reserve(bytes_);
  address_ = arena_->allocate(bytes_);
  ctx.backend.copy_rows(ctx, x, 0, view(), 0, x.rows());
}

void DeepFeatures::finish(const Origin& origin) {
  origin_ = origin;
  complete_ = true;
}

}  // namespace nd
