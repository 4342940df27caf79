#include "nn/conv2d.h"

#include <algorithm>

namespace nd {

namespace {

// A band of padded input stays within this, so that it is still in the last-level cache when the product reads it.
constexpr int64_t kBandFloats = (8 << 20) / sizeof(float);

/// One band: output rows [first, first + rows) of images [image, image + images), and the padded copy of its input.
struct Band {
  int64_t image, images, first, rows;
};

/// The kernel of output channel `o` as [kh][kw][in], whichever way it is stored.
void read_kernel(const StoredTensor& tensor, const Kernels& kernels, int64_t o, int64_t in, int64_t taps, float* out) {
  if (tensor.channels_last || taps == 1) {
    tensor.read(kernels, o * in * taps, in * taps, out);
    return;
  }
  float* stored = thread_scratch(static_cast<size_t>(in * taps));
  tensor.read(kernels, o * in * taps, in * taps, stored);
  for (int64_t i = 0; i < in; ++i)
    for (int64_t t = 0; t < taps; ++t) out[t * in + i] = stored[i * taps + t];
}

/// Which taps of a 3-wide kernel fall on input pixel `tap` (0, 1) of an output pixel of parity `parity` when the input
/// is doubled: output 2y+0 sees input y−1 through tap 0 and y through taps 1 and 2; output 2y+1 sees y through 0 and 1
/// and y+1 through 2.
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
  const StoredTensor& tensor = loader.weights.require(name + ".weight", {out, in, options.kernel, options.kernel});
  const Compute compute = loader.compute_for(tensor.type, options.sensitive);
  if (options.upsample) {
    for (int parity = 0; parity < 4; ++parity)
      weights_.emplace_back(loader, compute, out, Inner{2, 2, in}, [&](int64_t o, float* row) {
        std::vector<float> kernel(static_cast<size_t>(9 * in));
        read_kernel(tensor, loader.kernels, o, in, 9, kernel.data());
        fold_upsample(kernel.data(), in, parity / 2, parity % 2, row);
      });
  } else {
    weights_.emplace_back(loader, compute, out, Inner{options.kernel, options.kernel, in},
                          [&](int64_t o, float* row) { read_kernel(tensor, loader.kernels, o, in, taps, row); });
  }
  tensor.file->forget(tensor.data, tensor.bytes);
  if (options.bias) bias_ = loader.vector(name + ".bias", out);
}

Feature Conv2d::forward(Run& run, const Feature& x, const GroupNorm* norm, const Fuse& fuse) const {
  if (options_.kernel == 1 && options_.stride == 1) {
    return norm ? pointwise_.forward(run, norm->forward(run, x, true), fuse) : pointwise_.forward(run, x, fuse);
  }
  const Feature factors = norm ? norm->affine(run, x) : Feature();

  const int64_t c = in_, padded_c = weights_.front().padded_channels(), stride = options_.stride, scale = options_.upsample ? 2 : 1;
  const int64_t before = options_.pad_before, padded_w = x.w + before + options_.pad_after;
  // Rows and columns of the grid that the product runs over; an upsampling layer runs over its input's, four times.
  const int64_t grid_h = options_.upsample ? x.h : (x.h + before + options_.pad_after - options_.kernel) / stride + 1;
  const int64_t grid_w = options_.upsample ? x.w : (padded_w - options_.kernel) / stride + 1;
  Feature out(run, x.n, grid_h * scale, grid_w * scale, out_);

  const auto padded_rows = [&](int64_t rows) { return (rows - 1) * stride + options_.kernel; };
  const bool whole_batch = x.n * padded_rows(grid_h) * padded_w * c <= kBandFloats;
  int64_t band_rows = grid_h;
  while (band_rows > 1 && padded_rows(band_rows) * padded_w * c > kBandFloats) band_rows = (band_rows + 1) / 2;
  const int64_t band_images = whole_batch ? x.n : 1;

  const PixelBuffer padded(run, weights_.front(), band_images * padded_rows(band_rows) * padded_w);
  const Scratch<int64_t> row_offset(run, band_images * band_rows * grid_w);
  const Scratch<int64_t> c_offset(run, options_.upsample ? band_images * band_rows * grid_w : 0);
  if (run.measuring()) return out;

  const auto run_band = [&](const Band& band) {
    const int64_t height = padded_rows(band.rows);
    run.parallel(band.images * height, [&](int64_t task, int) {
      const int64_t image = band.image + task / height, y = band.first * stride - before + task % height;
      const int64_t pixel = task * padded_w;
      if (y < 0 || y >= x.h) {
        padded.clear(pixel, padded_w);
        return;
      }
      const float* factor = norm ? factors.data() + image * 2 * c : nullptr;
      padded.clear(pixel, before);
      padded.write(pixel + before, x.data() + (image * x.h + y) * x.w * c, x.w, factor, norm ? factor + c : nullptr,
                   norm != nullptr);
      padded.clear(pixel + before + x.w, options_.pad_after);
    });

    for (int parity = 0; parity < static_cast<int>(weights_.size()); ++parity) {
      const int64_t py = parity / 2, px = parity % 2;
      int64_t m = 0;
      for (int64_t image = 0; image < band.images; ++image)
        for (int64_t y = 0; y < band.rows; ++y)
          for (int64_t column = 0; column < grid_w; ++column, ++m) {
            row_offset.data()[m] = ((image * height + y * stride + py) * padded_w + column * stride + px) * padded_c;
            if (options_.upsample) c_offset.data()[m] = ((image * out.h + 2 * y + py) * out.w + 2 * column + px) * out_;
          }
      const int64_t start = (band.image * out.h + band.first * scale) * out.w * out_;
      LowGemmArgs args;
      args.m = m;
      args.row_offset = row_offset.data();
      args.c = out.data() + start;
      args.ldc = args.ldr = out_;
      if (options_.upsample) args.c_offset = args.residual_offset = c_offset.data();
      args.bias = bias_.empty() ? nullptr : bias_.data();
      if (fuse.image_bias) args.image_bias = fuse.image_bias + band.image * fuse.image_bias_stride;
      args.image_bias_stride = fuse.image_bias_stride;
      args.rows_per_image = band.rows * grid_w;
      if (fuse.residual) args.residual = fuse.residual->data() + start;
      args.activation = fuse.activation;
      run_product(run, weights_[static_cast<size_t>(parity)], &padded, padded_w, args);
    }
  };
  for (int64_t image = 0; image < x.n; image += band_images)
    for (int64_t first = 0; first < grid_h; first += band_rows)
      run_band({image, band_images, first, std::min(band_rows, grid_h - first)});
  return out;
}

}  // namespace nd
