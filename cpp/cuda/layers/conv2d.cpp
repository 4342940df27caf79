#include "cuda/layers/conv2d.h"

#include <algorithm>
#include <utility>

#include "cuda/layers/norm.h"
#include "cuda/layers/product_plan.h"

namespace nd::cuda {
namespace {

constexpr int64_t kParities = 4, kFoldedTaps = 4;
constexpr size_t kChunkBytes = 16;  // of weights: eight fp16 values

/// The kernel of output channel `o` as [kh][kw][in], whichever way it is stored.
void read_kernel(const StoredTensor& tensor, int64_t o, int64_t in, int64_t taps, float* out) {
  if (tensor.channels_last || taps == 1) {
    tensor.read(scalar_decoders, o * in * taps, in * taps, out);
    return;
  }
  std::vector<float> stored(static_cast<size_t>(in * taps));
  tensor.read(scalar_decoders, o * in * taps, in * taps, stored.data());
  for (int64_t i = 0; i < in; ++i)
    for (int64_t t = 0; t < taps; ++t) out[t * in + i] = stored[static_cast<size_t>(i * taps + t)];
}

/// The tap of the 2×2 kernel that a tap of the 3×3 kernel becomes part of, along one axis: output 2y sees
/// input y − 1 through tap 0 and y through taps 1 and 2; output 2y + 1 sees y through 0 and 1 and y + 1
/// through 2.
int64_t folded_tap(int64_t tap, int64_t parity) {
  return parity == 0 ? (tap == 0 ? 0 : 1) : (tap == 2 ? 1 : 0);
}

}  // namespace

// NOLINTNEXTLINE(performance-unnecessary-value-param): as Backend passes it
Conv2d::Conv2d(Device& device, Loader& loader, Conv2dWeights weights, const Conv2dOptions& options)
    : nd::Conv2d(weights.in, weights.out, options), scale_(weights.scale) {
  const int64_t in = weights.in, out = weights.out, taps = int64_t{options.kernel} * options.kernel;
  const StoredTensor& tensor = weights.kernel;
  if (const StoredBlocks stored{{tensor}, taps, options.upsample, weights.compute == Compute::i8};
      Product::holds_blocks(stored)) {
    const int64_t product_taps = options.upsample ? kFoldedTaps : taps;
    product_ = Product(device, loader, in, product_taps, out, false, stored, weights.bias,
                       options.upsample ? kParities : 1);
    return;
  }
  if (!options.upsample) {
    const auto fill = [&](int64_t o, float* row) { read_kernel(tensor, o, in, taps, row); };
    product_ = Product(device, loader, in, taps, out, false, fill, weights.bias);
    return;
  }
  const auto fill = [&](int64_t row, float* folded) {
    const int64_t parity = row / out;
    std::vector<float> kernel(static_cast<size_t>(taps * in));
    read_kernel(tensor, row % out, in, taps, kernel.data());
    for (int64_t tap = 0; tap < taps; ++tap) {
      const int64_t y = folded_tap(tap / 3, parity / 2), x = folded_tap(tap % 3, parity % 2);
      for (int64_t i = 0; i < in; ++i)
        folded[(y * 2 + x) * in + i] += kernel[static_cast<size_t>(tap * in + i)];
    }
  };
  product_ = Product(device, loader, in, kFoldedTaps, out, false, fill, weights.bias, kParities);
}

Tensor Conv2d::output_shape(const Tensor& x) const {
  const Conv2dOptions& o = options();
  if (o.upsample) return Tensor::borrowed({}, x.n, 2 * x.h, 2 * x.w, out());
  const auto length = [&](int64_t side) {
    return (side + o.pad_before + o.pad_after - o.kernel) / o.stride + 1;
  };
  return Tensor::borrowed({}, x.n, length(x.h), length(x.w), out());
}

Tensor Conv2d::output(ForwardContext& ctx, const Tensor& x) const {
  const Tensor shape = output_shape(x);
  return Tensor(ctx, shape.n, shape.h, shape.w, shape.c);
}

ProductCall Conv2d::call(const Tensor& x, const Tensor& y) const {
  const Conv2dOptions& o = options();
  ProductCall call;
  call.x = &x, call.y = &y;
  call.pointwise = pointwise();
  call.alpha = scale_;
  if (o.upsample) {
    call.pad_y = call.pad_x = 1;
    call.kernel_w = call.out_step = 2;
    call.parities = kParities;
  } else {
    call.grid_h = y.h, call.grid_w = y.w;
    call.stride = o.stride;
    call.pad_y = call.pad_x = o.pad_before;
    call.kernel_w = o.kernel;
  }
  // Not where the end of a row or column is cut off: what is written there is changed afterwards.
  call.moments = o.feeds_group_norm && (!o.upsample || (y.h == 2 * x.h && y.w == 2 * x.w));
  return call;
}

void Conv2d::convolve(ForwardContext& ctx, const Tensor& x, const nd::GroupNorm* norm,
                      const Epilogue& epilogue, const Tensor& y) const {
  if (norm)
    run_normed(Context::of(ctx), product_, *norm, true, call(x, y), epilogue);
  else
    product_.run(Context::of(ctx), call(x, y), epilogue);
}

Tensor Conv2d::forward(ForwardContext& ctx, const Tensor& x, const nd::GroupNorm* norm,
                       const Epilogue& epilogue) const {
  Tensor y = output(ctx, x);
  convolve(ctx, x, norm, epilogue, y);
  return y;
}

Tensor Conv2d::forward_joined(ForwardContext& ctx, const JoinedTensor& x) const {
  if (!pointwise() || !suits_second(x.first().c, x.second().c)) return nd::Conv2d::forward_joined(ctx, x);
  Tensor y = output(ctx, x.first());
  ProductCall call = this->call(x.first(), y);
  call.second = &x.second();
  product_.run(Context::of(ctx), call, {});
  return y;
}

Tensor Conv2d::forward_joined_normed(ForwardContext& base, JoinedTensor x, const nd::GroupNorm& norm,
                                     const Epilogue& epilogue) const {
  Context& ctx = Context::of(base);
  const Tensor &first = x.first(), shape = Tensor::borrowed({}, first.n, first.h, first.w, x.channels());
  const Tensor output_only = output_shape(shape);
  ProductCall call = this->call(shape, output_only);
  if (first.c % 8 != 0 || !product_.takes_int8(ctx.device, call))
    return nd::Conv2d::forward_joined_normed(ctx, std::move(x), norm, epilogue);
  const Int8Tensor normed(ctx, shape.size());
  static_cast<const GroupNorm&>(norm).forward_joined_int8(ctx, x, normed, true);
  x.release();
  Tensor y = output(ctx, shape);
  call.y = &y, call.int8 = &normed;
  product_.run(ctx, call, epilogue);
  return y;
}

Tensor Conv2d::forward_onto(ForwardContext& ctx, const Tensor& x, const nd::GroupNorm* norm,
                            Tensor residual) const {
  Epilogue epilogue;
  epilogue.residual = &residual;
  convolve(ctx, x, norm, epilogue, residual);
  return residual;
}

Tensor Conv2d::forward_with(ForwardContext& ctx, const Tensor& x, const Tensor& factors,
                            const Epilogue& epilogue) const {
  Tensor y = output(ctx, x);
  if (factors)
    convolve(ctx, apply_affine(ctx, x, factors, true), nullptr, epilogue, y);
  else
    convolve(ctx, x, nullptr, epilogue, y);
  return y;
}

Tensor Conv2d::forward_onto_with(ForwardContext& ctx, const Tensor& x, const Tensor& factors, Tensor residual,
                                 bool relu) const {
  Epilogue epilogue;
  epilogue.residual = &residual;
  epilogue.relu_after_residual = relu;
  if (factors)
    convolve(ctx, apply_affine(ctx, x, factors, true), nullptr, epilogue, residual);
  else
    convolve(ctx, x, nullptr, epilogue, residual);
  return residual;
}

Tensor Conv2d::forward_in_place(ForwardContext& ctx, Tensor x) const {
  // Blocks of the result would overwrite pixels that others still read.
  return forward(ctx, x, nullptr, {});
}

// What is convolved is normalized apart. With the shortcut first, that takes x's place: at the autoencoder's
// largest level x is two thirds of what is needed at once.
Conv2d::Branches Conv2d::forward_branches(ForwardContext& ctx, Tensor x, const Tensor& factors,
                                          const nd::Conv2d* shortcut, const Epilogue& epilogue) const {
  if (!shortcut || !factors)
    return nd::Conv2d::forward_branches(ctx, std::move(x), factors, shortcut, epilogue);
  Tensor residual = shortcut->forward(ctx, x);
  const Tensor normed = apply_affine_onto(ctx, std::move(x), factors, true);
  return {forward(ctx, normed, nullptr, epilogue), std::move(residual)};
}

// Interpolating h pixels to 2h−1 gives the first 2h−1 of the 2h that doubling gives. The convolution that
// follows must see zeros beyond them, where the folded one has seen the last pixel's second copy: its share
// is subtracted. It is the last row of the 3×3 kernel times x's last row, and the odd parities' second tap is
// that row alone. Columns likewise; the corner is in both shares, so its own is added back.
Tensor Conv2d::upsample(ForwardContext& ctx, const Tensor& x, int64_t height, int64_t width) const {
  Tensor y(ctx, x.n, height, width, out());
  convolve(ctx, x, nullptr, {}, y);
  const bool row = height < 2 * x.h, column = width < 2 * x.w;
  if (row) subtract_beyond(ctx, x, y, true, false);
  if (column) subtract_beyond(ctx, x, y, false, true);
  if (row && column) subtract_beyond(ctx, x, y, true, true);
  return y;
}

void Conv2d::subtract_beyond(ForwardContext& ctx, const Tensor& x, const Tensor& y, bool row,
                             bool column) const {
  Epilogue onto;
  onto.residual = &y;
  ProductCall call;
  call.x = &x, call.y = &y;
  call.pointwise = call.bias = false;
  call.alpha = row && column ? scale_ : -scale_;
  call.out_step = 2;
  call.grid_h = row ? 1 : x.h, call.grid_w = column ? 1 : x.w;
  call.chunks = product_.chunks() / kFoldedTaps;
  for (int64_t index = 0; index < kParities * kFoldedTaps; ++index) {
    const int64_t parity = index / kFoldedTaps, tap = index % kFoldedTaps;
    const int64_t py = parity / 2, px = parity % 2, ty = tap / 2, tx = tap % 2;
    if ((row && !(py == 1 && ty == 1)) || (column && !(px == 1 && tx == 1))) continue;
    call.weights_offset = static_cast<size_t>(parity) * product_.plane_bytes() +
                          static_cast<size_t>(tap * call.chunks) * kChunkBytes;
    call.pad_y = row ? 1 - x.h : 1 - py - ty, call.pad_x = column ? 1 - x.w : 1 - px - tx;
    call.out_y = row ? 2 * x.h - 2 : py, call.out_x = column ? 2 * x.w - 2 : px;
    product_.run(Context::of(ctx), call, onto);
  }
}

}  // namespace nd::cuda
