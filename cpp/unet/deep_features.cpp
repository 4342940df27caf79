#include "unet/deep_features.h"

#include "nn/backend.h"

namespace nd {

void DeepFeatures::keep(ForwardContext& ctx, const Tensor& x) {
  if (!ctx.measuring()) return ctx.backend.copy_rows(ctx, x, 0, view(), 0, x.rows());
  n_ = x.n, h_ = x.h, w_ = x.w, c_ = x.c;
  bytes_ = static_cast<size_t>(x.size()) * ctx.backend.element_bytes();
}

void DeepFeatures::allocate(ForwardContext& ctx) {
  if (memory_ != &ctx.backend.memory()) {
    memory_ = &ctx.backend.memory();
    arena_ = std::make_unique<Arena>(*memory_);
  }
  arena_->reserve(bytes_);
  address_ = arena_->allocate(bytes_);
}

void DeepFeatures::describe(std::vector<uint64_t>& key) const {
  key.push_back(address_.value);
  for (const int64_t size : {n_, h_, w_, c_}) key.push_back(static_cast<uint64_t>(size));
}

void DeepFeatures::finish(const Origin& origin) {
  origin_ = origin;
  complete_ = true;
}

}  // namespace nd
