#include "cuda/layers/linear.h"

#include <utility>

#include "cuda/layers/norm.h"

namespace nd::cuda {

Linear::Linear(Device& device, Loader& loader, LinearWeights weights, const LinearOptions& options)
    : scale_(weights.scale), feeds_group_norm_(options.feeds_group_norm) {
  const int64_t in = weights.in, out_each = weights.out_each;
  if (const StoredBlocks stored{weights.matrices, 1, false, weights.compute == Compute::i8};
      Product::holds_blocks(stored)) {
    product_ = Product(device, loader, in, 1, weights.out(), options.geglu, stored, weights.bias);
    return;
  }
  const auto fill = [&](int64_t row, float* out) {
    const StoredTensor& matrix = weights.matrices[static_cast<size_t>(row / out_each)];
    matrix.read(scalar_decoders, row % out_each * in, in, out);
  };
  product_ = Product(device, loader, in, 1, weights.out(), options.geglu, fill, weights.bias);
}

Tensor Linear::output(ForwardContext& ctx, const Tensor& x) const {
  return Tensor(ctx, x.n, x.h, x.w, product_.out());
}

ProductCall Linear::call(const Tensor& x, const Tensor& y) const {
  ProductCall call;
  call.x = &x, call.y = &y;
  call.alpha = scale_;
  call.moments = feeds_group_norm_;
  return call;
}

void Linear::forward_to(ForwardContext& ctx, const Tensor& x, const Epilogue& epilogue,
                        const Tensor& y) const {
  product_.run(Context::of(ctx), call(x, y), epilogue);
}

Tensor Linear::forward(ForwardContext& ctx, const Tensor& x, const Epilogue& epilogue) const {
  Tensor y = output(ctx, x);
  forward_to(ctx, x, epilogue, y);
  return y;
}

Tensor Linear::forward_normed(ForwardContext& ctx, const nd::GroupNorm& norm, const Tensor& x) const {
  Tensor y = output(ctx, x);
  run_normed(Context::of(ctx), product_, norm, false, call(x, y), {});
  return y;
}

Tensor Linear::forward_normed(ForwardContext& ctx, const nd::LayerNorm& norm, const Tensor& x) const {
  Tensor y = output(ctx, x);
  run_normed(Context::of(ctx), product_, norm, call(x, y), {});
  return y;
}

Tensor Linear::forward_in_place(ForwardContext& ctx, Tensor x) const {
  // Blocks of the result would overwrite rows that others still read.
  return forward(ctx, x);
}

FeedForward::FeedForward(Device& device, Loader& loader, LinearWeights in, LinearWeights out)
    : out_(device, loader, std::move(out), {}) {
  LinearOptions gated;
  gated.geglu = true;
  in_ = Linear(device, loader, std::move(in), gated);
}

void FeedForward::add_to(ForwardContext& ctx, const Tensor& normed, const Tensor& x) const {
  add_hidden(ctx, in_.forward(ctx, normed), x);
}

void FeedForward::add_normed_to(ForwardContext& ctx, const nd::LayerNorm& norm, const Tensor& x) const {
  add_hidden(ctx, in_.forward_normed(ctx, norm, x), x);
}

void FeedForward::add_hidden(ForwardContext& ctx, const Tensor& hidden, const Tensor& x) const {
  Epilogue epilogue;
  epilogue.residual = &x;
  out_.forward_to(ctx, hidden, epilogue, x);
}

}  // namespace nd::cuda
