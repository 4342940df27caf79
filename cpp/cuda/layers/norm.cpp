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

Tensor like(ForwardContext& ctx, const Tensor& x) {
  return Tensor(ctx, x.n, x.h, x.w, x.c);
}

/// To y, or where that is null to int8. `shape` has images, rows and columns of x.
void apply(Context& ctx, const Tensor& shape, const NormInputs& x, const Tensor& factors, bool silu, half* y,
           const Int8Rows& int8) {
  const int32_t c = x.first.c + x.second.c;
  const int64_t image = shape.pixels() * c, total = shape.n * image;
  const AffineArgs args{x, pointer<float>(factors.address()), y, image, total, c, silu, int8};
  ctx.launch(y ? Kernel::affine : Kernel::affine_int8, {pieces_of(total, int64_t{8} * kMoveThreads)}, args);
}

}  // namespace

Tensor apply_affine(ForwardContext& ctx, const Tensor& x, const Tensor& factors, bool silu) {
  Tensor y = like(ctx, x);
  apply(Context::of(ctx), x, alone({data(x), nullptr, narrow(x.c), 0}), factors, silu, data(y), {});
  return y;
}

// Each thread has read its elements when it writes them.
Tensor apply_affine_onto(ForwardContext& ctx, Tensor x, const Tensor& factors, bool silu) {
  apply(Context::of(ctx), x, alone({data(x), nullptr, narrow(x.c), 0}), factors, silu, data(x), {});
  x.keep(nullptr);
  return x;
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

// Each block reads the moments of the groups that it has channels of. Where these are many, that takes longer
// than another launch.
GroupNorm::Cut GroupNorm::cut(const Context& ctx, const Tensor& shape, int64_t max_moments, bool int8) const {
  constexpr int64_t kMinChannels = 64, kMinRows = 32, kMaxBytes = 4 << 20;
  const int64_t width = channels_ / groups_;
  int64_t groups = 1;
  while (groups < groups_ &&
         (groups * width < kMinChannels || (channels_ % 8 == 0 && groups * width % 8 != 0)))
    ++groups;
  Cut cut{};
  // Those of a scale of int8 stay together, though groups may not.
  cut.channels = int8 ? kInt8K : groups * width;
  cut.slices = pieces_of(channels_, cut.channels);
  // A block for each multiprocessor.
  cut.rows = std::max(kMinRows, pieces_of(shape.rows() * cut.slices, ctx.device.multiprocessors()));
  cut.bands = pieces_of(shape.pixels(), cut.rows);
  // A slice for int8 has channels of so many groups at most, whose moments more than one may read.
  const int64_t touched = (kInt8K - 2) / width + 2;
  const double repeated = int8 ? static_cast<double>(cut.slices * touched) / static_cast<double>(groups_) : 1;
  const int64_t bytes = shape.n * cut.bands * max_moments * 3 * static_cast<int64_t>(sizeof(float));
  cut.in_one_kernel = cut.channels <= kNormChannels &&
                      static_cast<double>(bytes) * repeated <= static_cast<double>(kMaxBytes);
  return cut;
}

Tensor GroupNorm::output(ForwardContext& ctx, const Tensor& shape) const {
  return Tensor(ctx, shape.n, shape.h, shape.w, channels_);
}

void GroupNorm::normalize(Context& ctx, const Tensor& shape, const NormInputs& x, int64_t max_moments,
                          bool silu, half* y, const Int8Rows& int8) const {
  const Cut cut = this->cut(ctx, shape, max_moments, !y);
  if (!cut.in_one_kernel) return apply(ctx, shape, x, factors(ctx, x, shape.n), silu, y, int8);
  GroupNormArgs args{};
  args.x = x;
  args.gamma = pointer<float>(gamma_.address()), args.beta = pointer<float>(beta_.address());
  args.y = y, args.int8 = int8;
  args.pixels = narrow(shape.pixels()), args.c = narrow(channels_);
  args.groups = narrow(groups_), args.slice = narrow(cut.channels);
  args.rows = narrow(cut.rows);
  args.eps = eps_;
  args.silu = silu;
  ctx.launch(y ? Kernel::group_norm : Kernel::group_norm_int8, {cut.slices, cut.bands, shape.n}, args);
}

Tensor GroupNorm::forward(ForwardContext& base, const Tensor& x, bool silu) const {
  Context& ctx = Context::of(base);
  const MeasuredInput input(ctx, x);
  Tensor y = output(ctx, x);
  normalize(ctx, x, alone(input.get()), input.max_moments(), silu, data(y), {});
  return y;
}

void GroupNorm::forward_int8(Context& ctx, const Tensor& x, const Int8Tensor& y, bool silu) const {
  const MeasuredInput input(ctx, x);
  normalize(ctx, x, alone(input.get()), input.max_moments(), silu, nullptr, y.rows());
}

Tensor GroupNorm::forward_joined(ForwardContext& base, const JoinedTensor& x, bool silu) const {
  Context& ctx = Context::of(base);
  const MeasuredInputs inputs(ctx, x);
  Tensor y = output(ctx, x.first());
  normalize(ctx, x.first(), inputs.get(), inputs.max_moments(), silu, data(y), {});
  return y;
}

void GroupNorm::forward_joined_int8(Context& ctx, const JoinedTensor& x, const Int8Tensor& y,
                                    bool silu) const {
  const MeasuredInputs inputs(ctx, x);
  normalize(ctx, x.first(), inputs.get(), inputs.max_moments(), silu, nullptr, y.rows());
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
  Tensor y = like(ctx, x);
  normalize(ctx, x, data(y), {});
  return y;
}

void LayerNorm::forward_int8(Context& ctx, const Tensor& x, const Int8Tensor& y) const {
  normalize(ctx, x, nullptr, y.rows());
}

void LayerNorm::normalize(Context& ctx, const Tensor& x, half* y, const Int8Rows& int8) const {
  const LayerNormArgs args{data(x),
                           pointer<float>(gamma_.address()),
                           pointer<float>(beta_.address()),
                           y,
                           narrow(x.rows()),
                           narrow(x.c),
                           eps_,
                           int8};
  ctx.launch(y ? Kernel::layer_norm : Kernel::layer_norm_int8, {pieces_of(x.rows(), kMoveThreads / 32)},
             args);
}

namespace {

/// Norm: one of the classes above; silu: its argument, or none.
template <class Norm, class... Silu>
void run_after(Context& ctx, const Product& product, const Norm& norm, ProductCall call,
               const Epilogue& epilogue, Silu... silu) {
  const Tensor& x = *call.x;
  if (product.takes_int8(ctx.device, call)) {
    const Int8Tensor normed(ctx, x.size());
    norm.forward_int8(ctx, x, normed, silu...);
    call.int8 = &normed;
    return product.run(ctx, call, epilogue);
  }
  const Tensor normed = norm.forward(ctx, x, silu...);
  call.x = &normed;
  product.run(ctx, call, epilogue);
}

}  // namespace

void run_normed(Context& ctx, const Product& product, const nd::GroupNorm& norm, bool silu, ProductCall call,
                const Epilogue& epilogue) {
  run_after(ctx, product, static_cast<const GroupNorm&>(norm), call, epilogue, silu);
}

void run_normed(Context& ctx, const Product& product, const nd::LayerNorm& norm, ProductCall call,
                const Epilogue& epilogue) {
  run_after(ctx, product, static_cast<const LayerNorm&>(norm), call, epilogue);
}

}  // namespace nd::cuda
