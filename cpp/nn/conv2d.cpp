#include "nn/conv2d.h"

#include <algorithm>

#include "nn/band.h"

namespace nd {

namespace {

/// The kernel of output channel `o` as [kh][kw][in], whichever way it is stored.
void read_kernel(const StoredTensor& tensor, const Kernels& kernels, int64_t o, int64_t in, int64_t taps,
                 float* out) {
  if (tensor.channels_last || taps == 1) {
    tensor.read(kernels, o * in * taps, in * taps, out);
    return;
  }
  float* stored = thread_scratch(static_cast<size_t>(in * taps));
  tensor.read(kernels, o * in * taps, in * taps, stored);
  for (int64_t i = 0; i < in; ++i)
    for (int64_t t = 0; t < taps; ++t) out[t * in + i] = stored[i * taps + t];
}

/// Which taps of a 3-wide kernel fall on input pixel `tap` (0, 1) of an output pixel of parity `parity` when
/// the input is doubled: output 2y+0 sees input y−1 through tap 0 and y through taps 1 and 2; output 2y+1
/// sees y through 0 and 1 and y+1 through 2.
bool falls_on(int kernel_tap, int tap, int parity) {
  const int input = parity == 0 ? (kernel_tap == 0 ? 0 : 1) : (kernel_tap == 2 ? 1 : 0);
  return input == tap;
}

/// The 2×2 kernel [2][2][in] that a 3×3 one [3][3][in] becomes for one parity of output pixels.
void fold_upsample(const float* kernel, int64_t in, int row_parity, int column_parity, float* out) {
  std::fill_n(out, 4 * in, 0.0f);
  for (int ky = 0; ky < 3; ++ky)
    for (int kx = 0; kx < 3; ++kx)
      for (int ty = 0; ty < 2; ++ty)
        for (int tx = 0; tx < 2; ++tx) {
          if (!falls_on(ky, ty, row_parity) || !falls_on(kx, tx, column_parity)) continue;
          const float* from = kernel + (ky * 3 + kx) * in;
          float* to = out + (ty * 2 + tx) * in;
          for (int64_t i = 0; i < in; ++i) to[i] += from[i];
        }
}

}  // namespace

Conv2d::Conv2d(Loader& loader, const std::string& name, int64_t in, int64_t out, Conv2dOptions options)
    : options_(options), in_(in), out_(out) {
  if (options.kernel == 1 && options.stride == 1) {
    LinearOptions linear;
    linear.bias = options.bias;
    linear.sensitive = options.sensitive;
    pointwise_ = Linear(loader, name, in, out, linear);
    return;
  }
  const int64_t taps = int64_t{options.kernel} * options.kernel;
  const StoredTensor& tensor =
      loader.weights.require(name + ".weight", {out, in, options.kernel, options.kernel});
  Compute compute = loader.compute_for(tensor.type, options.sensitive);
  const FillRow read = [tensor, in, taps, &kernels = loader.kernels](int64_t o, float* kernel) {
    read_kernel(tensor, kernels, o, in, taps, kernel);
  };
  if (options.upsample) {
    weights_ = PackedMatrix(loader, compute, out, Inner{2, 2, in},
                            RowSource{[read, in](int64_t o, float* planes) {
                                        std::vector<float> kernel(static_cast<size_t>(9 * in));
                                        read(o, kernel.data());
                                        for (int parity = 0; parity < 4; ++parity)
                                          fold_upsample(kernel.data(), in, parity / 2, parity % 2,
                                                        planes + parity * 4 * in);
                                      },
                                      nullptr},
                            4);
  } else if (options.kernel == 3 && options.stride == 1 && options.pad_before == 1 &&
             options.pad_after == 1 &&
             Winograd::suits(loader, tensor.type, compute, in, out, options.winograd_int8)) {
    winograd_.emplace_back(loader, compute, in, out, read);
  } else {
    RowSource rows{read, nullptr};
    if (tensor.channels_last)
      rows.stored = [shared = std::make_shared<const StoredTensor>(tensor), size = in * taps](int64_t o) {
        return StoredRow{shared.get(), o * size};
      };
    weights_ = PackedMatrix(loader, compute, out, Inner{options.kernel, options.kernel, in}, std::move(rows));
  }
  if (options.bias) bias_ = loader.vector(name + ".bias", out);
}

Feature Conv2d::forward(Run& run, const Feature& x, const GroupNorm* norm, const Fuse& fuse) const {
  if (options_.kernel == 1 && options_.stride == 1)
    return norm ? pointwise_.forward(run, norm->forward(run, x, true), fuse)
                : pointwise_.forward(run, x, fuse);
  return forward_with(run, x, norm ? norm->affine(run, x) : Feature(), fuse);
}

Feature Conv2d::forward_onto(Run& run, const Feature& x, const GroupNorm* norm, Feature residual) const {
  return forward_onto_with(run, x, norm ? norm->affine(run, x) : Feature(), std::move(residual));
}

Feature Conv2d::forward_with(Run& run, const Feature& x, const Feature& factors, const Fuse& fuse) const {
  Feature out;
  convolve(run, x, factors, fuse, out);
  return out;
}

Feature Conv2d::forward_onto_with(Run& run, const Feature& x, const Feature& factors, Feature residual,
                                  bool relu_sum) const {
  Fuse fuse;
  fuse.residual = &residual;
  fuse.relu_sum = relu_sum;
  convolve(run, x, factors, fuse, residual);
  return residual;
}

void Conv2d::convolve(Run& run, const Feature& x, const Feature& factors, const Fuse& fuse,
                      Feature& out) const {
  const float* bias = bias_.empty() ? nullptr : bias_.data();
  if (!winograd_.empty()) return winograd_.front().forward(run, x, factors, bias, fuse, out);
  const Profiled layer(run, options_.upsample ? "upsampling convolution" : "convolution, direct",
                       weights_.multiplies());

  const int64_t stride = options_.stride, scale = options_.upsample ? 2 : 1, before = options_.pad_before;
  const int64_t padded_w = x.w + before + options_.pad_after, padded_c = weights_.padded_channels();
  // Rows and columns of the grid that the product runs over; an upsampling layer runs over its input's, four
  // times.
  const int64_t grid_h =
      options_.upsample ? x.h : (x.h + before + options_.pad_after - options_.kernel) / stride + 1;
  const int64_t grid_w = options_.upsample ? x.w : (padded_w - options_.kernel) / stride + 1;
  if (!out) out = Feature(run, x.n, grid_h * scale, grid_w * scale, out_);

  const int64_t row_bytes =
      stride * padded_w * padded_c * (weights_.low() ? weights_.low()->element_bytes : 4);
  const int64_t rows = band_rows(grid_h, row_bytes, 1);
  // Small images share a band.
  const int64_t images = rows >= grid_h && band_rows(x.n * grid_h, row_bytes, 1) >= x.n * grid_h ? x.n : 1;
  const auto input_rows = [&](int64_t output_rows) { return (output_rows - 1) * stride + options_.kernel; };
  const PixelBuffer padded(run, weights_.format(), images * input_rows(rows) * padded_w);
  const Scratch<int64_t> row_offset(run, images * rows * grid_w);
  const Scratch<int64_t> c_offset(run, options_.upsample ? images * rows * grid_w : 0);
  const Panels weights(run, weights_);
  if (run.measuring()) return;

  const auto run_band = [&](int64_t first_image, int64_t first, int64_t band_height) {
    const int64_t height = input_rows(band_height);
    {
      const Profiled input_copy(run, "convolution input: norm, padding", Compute::f32);
      copy_band(run, x, factors, {first_image, images, first * stride - before, height, before, padded_w},
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
            if (options_.upsample)
              c_offset.data()[m] = ((image * out.h + 2 * y + py) * out.w + 2 * column + px) * out_;
          }
      const int64_t start = (first_image * out.h + first * scale) * out.w * out_;
      LowGemmArgs args;
      args.m = m;
      args.row_offset = row_offset.data();
      args.c = out.data() + start;
      args.ldc = args.ldr = out_;
      if (options_.upsample) args.c_offset = args.residual_offset = c_offset.data();
      args.bias = bias;
      if (fuse.image_bias) args.image_bias = fuse.image_bias + first_image * fuse.image_bias_stride;
      args.image_bias_stride = fuse.image_bias_stride;
      args.rows_per_image = band_height * grid_w;
      if (fuse.residual) args.residual = fuse.residual->data() + start;
      args.activation = fuse.activation;
      run_product(run, weights, &padded, padded_w, args, parity);
    }
  };
  for (int64_t image = 0; image < x.n; image += images)
    for (int64_t first = 0; first < grid_h; first += rows)
      run_band(image, first, std::min(rows, grid_h - first));
  if (!fuse.relu_sum) return;
  const int64_t row = out.w * out.c;
  run.parallel(out.n * out.h,
               [&](int64_t y, int) { run.kernels.activate(out.data() + y * row, row, Activation::relu); });
}

}  // namespace nd
