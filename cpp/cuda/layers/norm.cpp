#include "cuda/layers/norm.h"

#include <utility>

namespace nd::cuda {
namespace {

int64_t moment_pieces(int64_t pixels) {
  return pieces_of(pixels, kMomentRows);
}

// NOLINTNEXTLINE(readability-non-const-parameter): the kernel writes there
void take_moments(Context& ctx, half* x, int64_t n, int64_t pixels, int64_t c, float* moments) {
  const MomentsArgs args{x, moments, narrow(pixels), narrow(c), narrow(moment_pieces(pixels))};
  ctx.launch(Kernel::channel_moments, {moment_pieces(pixels), pieces_of(c, kMomentChannels), n}, args);
}

}  // namespace

Tensor apply_affine(ForwardContext& base, const Tensor& x, const Tensor& factors, bool silu) {
  Context& ctx = Context::of(base);
  Tensor y(ctx, x.n, x.h, x.w, x.c);
  const AffineArgs args{
      data(x), pointer<float>(factors.address()), data(y), x.pixels() * x.c, x.size(), narrow(x.c), silu};
  ctx.launch(Kernel::affine, {pieces_of(x.size(), int64_t{8} * kMoveThreads)}, args);
  return y;
}

void ChannelMoments::add(ForwardContext& base, const Tensor& x, int64_t first, int64_t rows) {
  Context& ctx = Context::of(base);
  const int64_t pixels = rows * x.w, pieces = moment_pieces(pixels), c = x.c;
  const bool begins = !total_;
  if (begins) total_ = std::make_unique<Scratch<float>>(ctx, 3 * c);
  const Scratch<float> moments(ctx, pieces * 3 * c);
  half* from = pointer<half>(x.address() + static_cast<size_t>(first * x.w * c) * 2);
  take_moments(ctx, from, 1, pixels, c, moments.data());
  const MergeMomentsArgs args{total_->data(), moments.data(), narrow(c), narrow(pieces), begins};
  ctx.launch(Kernel::merge_moments, {pieces_of(c, kMoveThreads)}, args);
}

Tensor GroupNorm::factors(Context& ctx, const float* moments, int64_t n, int64_t pieces) const {
  Tensor out(ctx, n, 2, 2, channels_);  // two fp16 elements hold a float
  const GroupFactorsArgs args{moments,
                              pointer<float>(gamma_.address()),
                              pointer<float>(beta_.address()),
                              pointer<float>(out.address()),
                              narrow(channels_),
                              narrow(pieces),
                              narrow(groups_),
                              eps_};
  ctx.launch(Kernel::group_factors, {groups_, n}, args);
  return out;
}

Tensor GroupNorm::affine(ForwardContext& base, const Tensor& x) const {
  Context& ctx = Context::of(base);
  const int64_t pieces = moment_pieces(x.pixels());
  const Scratch<float> moments(ctx, x.n * pieces * 3 * x.c);
  take_moments(ctx, data(x), x.n, x.pixels(), x.c, moments.data());
  return factors(ctx, moments.data(), x.n, pieces);
}

Tensor GroupNorm::affine(ForwardContext& ctx, const nd::ChannelMoments& image) const {
  return factors(Context::of(ctx), static_cast<const ChannelMoments&>(image).moments(), 1, 1);
}

Tensor GroupNorm::forward(ForwardContext& ctx, const Tensor& x, bool silu) const {
  return apply_affine(ctx, x, affine(ctx, x), silu);
}

Tensor GroupNorm::modulated(ForwardContext& base, const Tensor& x, const Tensor& modulations,
                            int64_t first_channel, Activation activation) const {
  Context& ctx = Context::of(base);
  const Tensor factors = affine(base, x);
  Tensor y(ctx, x.n, x.h, x.w, x.c);
  ModulateArgs args{};
  args.x = data(x), args.y = data(y);
  args.factors = pointer<float>(factors.address());
  args.modulations = pointer<half>(modulations.address() + static_cast<size_t>(first_channel) * 2);
  args.image = x.pixels() * x.c, args.total = x.size();
  args.c = narrow(x.c), args.modulation_row = narrow(modulations.c);
  args.gelu = activation == Activation::gelu;
  ctx.launch(Kernel::modulate, {pieces_of(x.size(), kMoveThreads)}, args);
  return y;
}

Tensor LayerNorm::forward(ForwardContext& base, const Tensor& x) const {
  Context& ctx = Context::of(base);
  Tensor y(ctx, x.n, x.h, x.w, x.c);
  const LayerNormArgs args{data(x),
                           pointer<float>(gamma_.address()),
                           pointer<float>(beta_.address()),
                           data(y),
                           narrow(x.rows()),
                           narrow(x.c),
                           eps_};
  ctx.launch(Kernel::layer_norm, {pieces_of(x.rows(), kMoveThreads / 32)}, args);
  return y;
}

}  // namespace nd::cuda
