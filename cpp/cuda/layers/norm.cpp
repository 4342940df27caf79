#include "cuda/layers/norm.h"

#include <algorithm>

namespace nd::cuda {
namespace {

NormInputs alone(const NormInput& x) {
  return {x, {}};
}

/// Both parts of a joined tensor, with their moments.
class MeasuredInputs {
 public:
  MeasuredInputs(Context& ctx, const JoinedTensor& x) : first_(ctx, x.first()), second_(ctx, x.second()) {}
  NormInputs get() const { return {first_.get(), second_.get()}; }
  int64_t max_moments() const { return first_.max_moments() + second_.max_moments(); }

 private:
  MeasuredInput first_, second_;
};

Tensor apply(Context& ctx, const Tensor& shape, const NormInputs& x, const Tensor& factors, bool silu) {
  const int32_t c = x.first.c + x.second.c;
  Tensor y(ctx, shape.n, shape.h, shape.w, c);
  const AffineArgs args{x, pointer<float>(factors.address()), data(y), shape.pixels() * c, y.size(), c, silu};
  ctx.launch(Kernel::affine, {pieces_of(y.size(), int64_t{8} * kMoveThreads)}, args);
  return y;
}

}  // namespace

Tensor apply_affine(ForwardContext& ctx, const Tensor& x, const Tensor& factors, bool silu) {
  return apply(Context::of(ctx), x, alone({data(x), nullptr, narrow(x.c), 0}), factors, silu);
}

void ChannelMoments::add(ForwardContext& base, const Tensor& x, int64_t first, int64_t rows) {
  Context& ctx = Context::of(base);
  const int64_t pixels = rows * x.w, pieces = pieces_of(pixels, kMomentRows), c = x.c;
  const bool begins = !total_;
  if (begins) total_ = std::make_unique<Scratch<float>>(ctx, 3 * c);
  const Scratch<float> moments(ctx, pieces * 3 * c);
  const half* from = pointer<half>(x.address() + static_cast<size_t>(first * x.w * c) * 2);
  ctx.launch(Kernel::channel_moments, {pieces, pieces_of(c, kMomentChannels), 1},
             MomentsArgs{from, moments.data(), narrow(pixels), narrow(c), narrow(pieces)});
  const MergeMomentsArgs args{total_->data(), moments.data(), narrow(c), narrow(pieces), begins};
  ctx.launch(Kernel::merge_moments, {pieces_of(c, kMoveThreads)}, args);
}

Tensor GroupNorm::factors(Context& ctx, const NormInputs& x, int64_t n) const {
  Tensor out(ctx, n, 2, 2, channels_);  // two fp16 elements hold a float
  const GroupFactorsArgs args{x,
                              pointer<float>(gamma_.address()),
                              pointer<float>(beta_.address()),
                              pointer<float>(out.address()),
                              narrow(channels_),
                              narrow(groups_),
                              eps_};
  ctx.launch(Kernel::group_factors, {groups_, n}, args);
  return out;
}

Tensor GroupNorm::affine(ForwardContext& base, const Tensor& x) const {
  Context& ctx = Context::of(base);
  const MeasuredInput input(ctx, x);
  return factors(ctx, alone(input.get()), x.n);
}

Tensor GroupNorm::affine(ForwardContext& ctx, const nd::ChannelMoments& image) const {
  const float* moments = static_cast<const ChannelMoments&>(image).moments();
  return factors(Context::of(ctx), alone({nullptr, moments, narrow(channels_), 1}), 1);
}

// Each block reads the moments of its groups. Where these are many, that takes longer than another launch.
GroupNorm::Cut GroupNorm::cut(const Context& ctx, const Tensor& shape, int64_t max_moments) const {
  constexpr int64_t kMinChannels = 64, kMinRows = 32, kMaxBytes = 4 << 20;
  const int64_t width = channels_ / groups_;
  Cut cut{};
  cut.groups = 1;
  while (cut.groups < groups_ &&
         (cut.groups * width < kMinChannels || (channels_ % 8 == 0 && cut.groups * width % 8 != 0)))
    ++cut.groups;
  cut.slices = pieces_of(groups_, cut.groups);
  // A block for each multiprocessor.
  cut.rows = std::max(kMinRows, pieces_of(shape.rows() * cut.slices, ctx.device.multiprocessors()));
  cut.bands = pieces_of(shape.pixels(), cut.rows);
  const int64_t bytes = shape.n * cut.bands * max_moments * 3 * static_cast<int64_t>(sizeof(float));
  cut.in_one_kernel = cut.groups * width <= kNormChannels && bytes <= kMaxBytes;
  return cut;
}

Tensor GroupNorm::normalize(Context& ctx, const Tensor& shape, const NormInputs& x, int64_t max_moments,
                            bool silu) const {
  const Cut cut = this->cut(ctx, shape, max_moments);
  if (!cut.in_one_kernel) return apply(ctx, shape, x, factors(ctx, x, shape.n), silu);
  Tensor y(ctx, shape.n, shape.h, shape.w, channels_);
  GroupNormArgs args{};
  args.x = x;
  args.gamma = pointer<float>(gamma_.address()), args.beta = pointer<float>(beta_.address());
  args.y = data(y);
  args.pixels = narrow(shape.pixels()), args.c = narrow(channels_);
  args.groups = narrow(groups_), args.slice = narrow(cut.groups);
  args.rows = narrow(cut.rows);
  args.eps = eps_;
  args.silu = silu;
  ctx.launch(Kernel::group_norm, {cut.slices, cut.bands, shape.n}, args);
  return y;
}

Tensor GroupNorm::forward(ForwardContext& base, const Tensor& x, bool silu) const {
  Context& ctx = Context::of(base);
  const MeasuredInput input(ctx, x);
  return normalize(ctx, x, alone(input.get()), input.max_moments(), silu);
}

Tensor GroupNorm::forward_joined(ForwardContext& base, const JoinedTensor& x, bool silu) const {
  Context& ctx = Context::of(base);
  const MeasuredInputs inputs(ctx, x);
  return normalize(ctx, x.first(), inputs.get(), inputs.max_moments(), silu);
}

Tensor GroupNorm::modulate(Context& ctx, const Tensor& shape, const NormInputs& x, const Tensor& modulations,
                           int64_t first_channel, Activation activation) const {
  const Tensor factors = this->factors(ctx, x, shape.n);
  Tensor y(ctx, shape.n, shape.h, shape.w, channels_);
  ModulateArgs args{};
  args.x = x, args.y = data(y);
  args.factors = pointer<float>(factors.address());
  args.modulations = pointer<half>(modulations.address() + static_cast<size_t>(first_channel) * 2);
  args.image = y.pixels() * channels_, args.total = y.size();
  args.c = narrow(channels_), args.modulation_row = narrow(modulations.c);
  args.gelu = activation == Activation::gelu;
  ctx.launch(Kernel::modulate, {pieces_of(y.size(), kMoveThreads)}, args);
  return y;
}

Tensor GroupNorm::modulated(ForwardContext& base, const Tensor& x, const Tensor& modulations,
                            int64_t first_channel, Activation activation) const {
  Context& ctx = Context::of(base);
  const MeasuredInput input(ctx, x);
  return modulate(ctx, x, alone(input.get()), modulations, first_channel, activation);
}

Tensor GroupNorm::modulated_joined(ForwardContext& base, const JoinedTensor& x, const Tensor& modulations,
                                   int64_t first_channel, Activation activation) const {
  Context& ctx = Context::of(base);
  const MeasuredInputs inputs(ctx, x);
  return modulate(ctx, x.first(), inputs.get(), modulations, first_channel, activation);
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
