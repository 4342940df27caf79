#include "cpu/layers/conv2d.h"

#include <algorithm>
#include <utility>

#include "cpu/layers/band.h"

namespace nd::cpu {

namespace {

constexpr int64_t kTaskRows = 16;  // rows of pixels

/// The last row of x below a row of zeros, or its last column right of a column of zeros, or the last pixel
/// with both.
Tensor last_after_zeros(Context& ctx, const Tensor& x, bool last_row, bool last_column) {
  Tensor out(ctx, x.n, last_row ? 2 : x.h, last_column ? 2 : x.w, x.c);
  const int64_t first = last_column ? 1 : 0;  // the first column that is copied
  ctx.parallel(out.n * out.h, [&](int64_t index, int) {
    const int64_t image = index / out.h, row = index % out.h;
    float* to = data(out) + index * out.w * x.c;
    std::fill_n(to, out.w * x.c, 0.0f);
    if (last_row && row == 0) return;
    const float* from = data(x) + ((image * x.h + row + x.h - out.h) * x.w + first + x.w - out.w) * x.c;
    std::copy_n(from, (out.w - first) * x.c, to + first * x.c);
  });
  return out;
}

/// The kernel of output channel `o` as [kh][kw][in], in whichever order it is stored.
void read_kernel(const StoredTensor& tensor, const Kernels& kernels, int64_t o, int64_t in, int64_t taps,
                 float* out) {
  if (tensor.channels_last || taps == 1) {
    tensor.read(kernels.decoders, o * in * taps, in * taps, out);
    return;
  }
  float* stored = thread_scratch(static_cast<size_t>(in * taps));
  tensor.read(kernels.decoders, o * in * taps, in * taps, stored);
  for (int64_t i = 0; i < in; ++i)
    for (int64_t t = 0; t < taps; ++t) out[t * in + i] = stored[i * taps + t];
}

/// Whether tap `kernel_tap` of a 3-wide kernel over the doubled input reads input pixel `tap` (0 or 1) of the
/// two that an output pixel of this parity reads: output 2y reads input y−1 by tap 0 and y by taps 1 and 2;
/// output 2y+1 reads y by taps 0 and 1 and y+1 by tap 2.
bool reads_pixel(int kernel_tap, int tap, int parity) {
  const int input = parity == 0 ? (kernel_tap == 0 ? 0 : 1) : (kernel_tap == 2 ? 1 : 0);
  return input == tap;
}

/// Folds a kernel [3][3][in] to the kernel [2][2][in] for output pixels of one parity.
void fold_upsample(const float* kernel, int64_t in, int row_parity, int column_parity, float* out) {
  std::fill_n(out, 4 * in, 0.0f);
  for (int ky = 0; ky < 3; ++ky)
    for (int kx = 0; kx < 3; ++kx)
      for (int ty = 0; ty < 2; ++ty)
        for (int tx = 0; tx < 2; ++tx) {
          if (!reads_pixel(ky, ty, row_parity) || !reads_pixel(kx, tx, column_parity)) continue;
          const float* from = kernel + (ky * 3 + kx) * in;
          float* to = out + (ty * 2 + tx) * in;
          for (int64_t i = 0; i < in; ++i) to[i] += from[i];
        }
}

void activate(Context& ctx, const Tensor& x, Activation activation) {
  const int64_t row = x.w * x.c;
  ctx.parallel(x.n * x.h, [&](int64_t y, int) { ctx.kernels.activate(data(x) + y * row, row, activation); });
}

}  // namespace

Conv2d::Conv2d(const Device& device, Loader& loader, Conv2dWeights weights, const Conv2dOptions& options)
    : nd::Conv2d(weights.in, weights.out, options), bias_(std::move(weights.bias)) {
  const int64_t in = weights.in, out = weights.out;
  const StoredTensor& tensor = weights.kernel;
  if (options.kernel == 1 && options.stride == 1) {
    LinearWeights linear;
    linear.matrices.push_back(tensor);
    linear.bias = std::move(bias_);
    linear.in = in;
    linear.out_each = out;
    linear.compute = weights.compute;
    pointwise_.emplace(device, loader, std::move(linear), LinearOptions{});
    return;
  }
  const int64_t taps = int64_t{options.kernel} * options.kernel;
  const FillRow read = [tensor, in, taps, &kernels = device.kernels](int64_t o, float* kernel) {
    read_kernel(tensor, kernels, o, in, taps, kernel);
  };
  if (options.upsample) {
    weights_ = PackedMatrix(device, loader, weights.compute, out, Inner{2, 2, in},
                            RowSource{[read, in](int64_t o, float* planes) {
                                        std::vector<float> kernel(static_cast<size_t>(9 * in));
                                        read(o, kernel.data());
                                        for (int parity = 0; parity < 4; ++parity)
                                          fold_upsample(kernel.data(), in, parity / 2, parity % 2,
                                                        planes + parity * 4 * in);
                                      },
                                      nullptr},
                            4);
  } else if (weights.winograd) {
    winograd_.emplace(device, loader, weights.compute, in, out, read);
  } else {
    RowSource rows{read, nullptr};
    if (tensor.channels_last && !tensor.rows)  // rows with adapters are not what is stored
      rows.stored = [shared = std::make_shared<const StoredTensor>(tensor), size = in * taps](int64_t o) {
        return StoredRow{shared.get(), o * size};
      };
    weights_ = PackedMatrix(device, loader, weights.compute, out, Inner{options.kernel, options.kernel, in},
                            std::move(rows));
  }
}

Tensor Conv2d::forward(ForwardContext& ctx, const Tensor& x, const nd::GroupNorm* norm,
                       const Epilogue& epilogue) const {
  if (pointwise_)
    return norm ? pointwise_->forward(ctx, norm->forward(ctx, x, true), epilogue)
                : pointwise_->forward(ctx, x, epilogue);
  return forward_with(ctx, x, norm ? norm->affine(ctx, x) : Tensor(), epilogue);
}

Tensor Conv2d::forward_onto(ForwardContext& ctx, const Tensor& x, const nd::GroupNorm* norm,
                            Tensor residual) const {
  return forward_onto_with(ctx, x, norm ? norm->affine(ctx, x) : Tensor(), std::move(residual), false);
}

Tensor Conv2d::forward_with(ForwardContext& ctx, const Tensor& x, const Tensor& factors,
                            const Epilogue& epilogue) const {
  Tensor out;
  convolve(Context::of(ctx), x, factors, epilogue, out);
  return out;
}

Tensor Conv2d::forward_onto_with(ForwardContext& ctx, const Tensor& x, const Tensor& factors, Tensor residual,
                                 bool relu) const {
  Epilogue epilogue;
  epilogue.residual = &residual;
  epilogue.relu_after_residual = relu;
  convolve(Context::of(ctx), x, factors, epilogue, residual);
  return residual;
}

Tensor Conv2d::forward_in_place(ForwardContext& ctx, Tensor x) const {
  return pointwise_->forward_in_place(ctx, std::move(x));
}

void Conv2d::convolve(Context& ctx, const Tensor& x, const Tensor& factors, const Epilogue& epilogue,
                      Tensor& out) const {
  const float* bias = bias_.empty() ? nullptr : bias_.data();
  if (winograd_) {
    winograd_->forward(ctx, x, factors, bias, epilogue, out);
    // Of the activations it has only ReLU.
    if (epilogue.activation != Activation::none && epilogue.activation != Activation::relu)
      activate(ctx, out, epilogue.activation);
    return;
  }
  const Conv2dOptions& options = this->options();
  const int64_t out_channels = this->out();
  const Profiled layer(ctx.profile, options.upsample ? "upsampling convolution" : "convolution, direct",
                       weights_.product_compute());

  const int64_t stride = options.stride, scale = options.upsample ? 2 : 1, before = options.pad_before;
  const int64_t padded_w = x.w + before + options.pad_after, padded_c = weights_.format().padded;
  // The grid of pixels that the product computes; an upsampling layer computes that of its input four times.
  const int64_t grid_h =
      options.upsample ? x.h : (x.h + before + options.pad_after - options.kernel) / stride + 1;
  const int64_t grid_w = options.upsample ? x.w : (padded_w - options.kernel) / stride + 1;
  if (!out) out = Tensor(ctx, x.n, grid_h * scale, grid_w * scale, out_channels);

  const int64_t row_bytes = stride * padded_w * weights_.format().bytes();
  const int64_t rows = band_rows(grid_h, row_bytes, 1);
  // Small images share a band.
  const int64_t images = rows >= grid_h && band_rows(x.n * grid_h, row_bytes, 1) >= x.n * grid_h ? x.n : 1;
  const auto input_rows = [&](int64_t output_rows) { return (output_rows - 1) * stride + options.kernel; };
  const PixelBuffer padded(ctx, weights_.format(), images * input_rows(rows) * padded_w);
  const Scratch<int64_t> row_offset(ctx, images * rows * grid_w);
  const Scratch<int64_t> c_offset(ctx, options.upsample ? images * rows * grid_w : 0);
  const Panels weights(ctx, weights_);
  if (ctx.measuring()) return count_product(ctx, weights_, x.n * grid_h * grid_w * scale * scale);

  const auto run_band = [&](int64_t first_image, int64_t first, int64_t band_height) {
    const int64_t height = input_rows(band_height);
    {
      const Profiled input_copy(ctx.profile, "convolution input: norm, padding", Compute::f32);
      copy_band(ctx, x, factors, {first_image, images, first * stride - before, height, before, padded_w},
                padded);
    }
    for (int parity = 0; parity < scale * scale; ++parity) {
      const int64_t py = parity / 2, px = parity % 2;
      int64_t m = 0;
      for (int64_t image = 0; image < images; ++image)
        for (int64_t y = 0; y < band_height; ++y)
          for (int64_t column = 0; column < grid_w; ++column, ++m) {
            row_offset.data()[m] =
                ((image * height + y * stride + py) * padded_w + column * stride + px) * padded_c;
            if (options.upsample)
              c_offset.data()[m] = ((image * out.h + 2 * y + py) * out.w + 2 * column + px) * out_channels;
          }
      const int64_t start = (first_image * out.h + first * scale) * out.w * out_channels;
      ProductInput input;
      input.rows = m;
      input.pixels = &padded;
      input.row_pixels = padded_w;
      input.row_offset = row_offset.data();
      GemmEpilogue finish = kernel_epilogue(epilogue);
      finish.c = data(out) + start;
      finish.ldc = finish.ldr = out_channels;
      if (options.upsample) finish.c_offset = finish.residual_offset = c_offset.data();
      finish.bias = bias;
      finish.rows_per_image = band_height * grid_w;
      if (finish.image_bias) finish.image_bias += first_image * finish.image_bias_stride;
      if (finish.residual) finish.residual += start;
      run_product(ctx, weights, input, finish, parity);
    }
  };
  for (int64_t image = 0; image < x.n; image += images)
    for (int64_t first = 0; first < grid_h; first += rows)
      run_band(image, first, std::min(rows, grid_h - first));
  if (epilogue.relu_after_residual) activate(ctx, out, Activation::relu);
}

Tensor Conv2d::upsample(ForwardContext& ctx, const Tensor& x, int64_t height, int64_t width) const {
  Tensor doubled = forward_with(ctx, x, Tensor(), {});
  if (doubled.h == height && doubled.w == width) return doubled;
  return crop(Context::of(ctx), x, doubled, height, width);
}

// Interpolating h pixels to 2h−1 gives the first 2h−1 of the 2h pixels that doubling gives. The convolution
// that follows must see zeros after them, but the folded one has seen the second copy of the last pixel. That
// copy contributes the last row of the weights × the last row of x, which the same folded convolution
// computes: over a row of zeros and the last row of x, output row 1 is bias + the contribution, and row 0 is
// the bias. Columns likewise. The corner is in both contributions, so its own is added back.
Tensor Conv2d::crop(Context& ctx, const Tensor& x, const Tensor& doubled, int64_t height,
                    int64_t width) const {
  const bool crop_row = height != doubled.h, crop_column = width != doubled.w;
  const int64_t c = doubled.c;
  Tensor row_part, column_part, corner_part;
  if (crop_row) row_part = forward_with(ctx, last_after_zeros(ctx, x, true, false), Tensor(), {});
  if (crop_column) column_part = forward_with(ctx, last_after_zeros(ctx, x, false, true), Tensor(), {});
  if (crop_row && crop_column)
    corner_part = forward_with(ctx, last_after_zeros(ctx, x, true, true), Tensor(), {});

  Tensor out(ctx, x.n, height, width, c);
  const int64_t tasks = (height + kTaskRows - 1) / kTaskRows;
  ctx.parallel(x.n * tasks, [&](int64_t index, int) {
    const int64_t image = index / tasks, begin = index % tasks * kTaskRows;
    for (int64_t y = begin; y < std::min(begin + kTaskRows, height); ++y) {
      float* to = data(out) + (image * height + y) * width * c;
      std::copy_n(data(doubled) + (image * doubled.h + y) * doubled.w * c, width * c, to);
      if (crop_row && y == height - 1) {
        const float* bias = data(row_part) + image * row_part.pixels() * c;
        const float* part = bias + row_part.w * c;
        for (int64_t i = 0; i < width * c; ++i) to[i] -= part[i] - bias[i];
      }
      if (!crop_column) continue;
      float* last = to + (width - 1) * c;
      const float* column = data(column_part) + (image * column_part.h + y) * column_part.w * c;
      for (int64_t i = 0; i < c; ++i) last[i] -= column[c + i] - column[i];
      if (!crop_row || y != height - 1) continue;
      const float* corner = data(corner_part) + image * corner_part.pixels() * c;
      for (int64_t i = 0; i < c; ++i) last[i] += corner[(corner_part.w + 1) * c + i] - corner[i];
    }
  });
  return out;
}

}  // namespace nd::cpu
