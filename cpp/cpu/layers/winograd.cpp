#include "cpu/layers/winograd.h"

#include <algorithm>

#include "cpu/layers/band.h"

namespace nd::cpu {

namespace {

constexpr int64_t kPlanes = 16;
// The transformed input of a block of tiles, which should stay in L2 together with the products of one panel.
constexpr int64_t kBlockBytes = 768 << 10;
constexpr int64_t kRowMultiple = 6, kMaxTiles = 96;  // of a block

/// G g Gᵀ of a 3×3 kernel [3][3][in], as [16][in].
void transform_kernel(const float* kernel, int64_t in, float* out) {
  for (int64_t i = 0; i < in; ++i) {
    float half[4][3];
    for (int x = 0; x < 3; ++x) {
      const float a = kernel[(0 + x) * in + i], b = kernel[(3 + x) * in + i], c = kernel[(6 + x) * in + i];
      half[0][x] = a;
      half[1][x] = 0.5f * (a + b + c);
      half[2][x] = 0.5f * (a - b + c);
      half[3][x] = c;
    }
    for (int y = 0; y < 4; ++y) {
      const float a = half[y][0], b = half[y][1], c = half[y][2];
      out[(y * 4 + 0) * in + i] = a;
      out[(y * 4 + 1) * in + i] = 0.5f * (a + b + c);
      out[(y * 4 + 2) * in + i] = 0.5f * (a - b + c);
      out[(y * 4 + 3) * in + i] = c;
    }
  }
}

}  // namespace

/// The scratch memory of a block of tiles, in floats: for each plane the transformed input, the products of
/// one panel, and the scales of the input.
struct Winograd::BlockScratch {
  int64_t input, products, scales;

  BlockScratch(const PackedMatrix& weights, int64_t nr, int64_t tiles)
      : input((tiles * weights.format().bytes() + 63) / 64 * 16),
        products(tiles * nr),
        scales(weights.reduced() ? tiles * weights.format().groups() * weights.reduced()->scale_floats : 0) {}
  int64_t floats() const { return kPlanes * (input + products + scales); }
};

/// The tiles of a band.
struct Winograd::Tiles {
  const int64_t *input, *output;  // offsets in the band and in the output
  const uint8_t* valid;
  int64_t row;  // floats of one band row
  int64_t tiles_per_image, first_image;
};

Winograd::Winograd(const Device& device, Loader& loader, Compute compute, int64_t in, int64_t out,
                   const FillRow& read_kernel)
    : weights_(device, loader, compute, out, Inner{1, 1, in},
               RowSource{[read_kernel, in](int64_t o, float* planes) {
                           std::vector<float> kernel(static_cast<size_t>(9 * in));
                           read_kernel(o, kernel.data());
                           transform_kernel(kernel.data(), in, planes);
                         },
                         nullptr},
               kPlanes) {
  const BlockScratch scratch(weights_, device.kernels.nr, block_tiles());
  loader.need_task_bytes({static_cast<size_t>(scratch.floats()) * sizeof(float), 0});
}

int64_t Winograd::block_tiles() const {
  return std::clamp(kBlockBytes / (kPlanes * weights_.format().bytes()) / kRowMultiple * kRowMultiple,
                    2 * kRowMultiple, kMaxTiles);
}

void Winograd::forward(Context& ctx, const Tensor& x, const Tensor& factors, const float* bias,
                       const Epilogue& epilogue, Tensor& out) const {
  if (!out) out = Tensor(ctx, x.n, x.h, x.w, weights_.n());
  Profiled layer(ctx.profile, "3×3 convolution, Winograd", weights_.product_compute());
  const int64_t columns = (x.w + 1) / 2, width = 2 * columns + 2, c = x.c;
  const int64_t rows = band_rows(x.h, width * c * static_cast<int64_t>(sizeof(float)), 2);
  // Small images share a band.
  const int64_t images = rows >= x.h && x.n * rows * width * c * 4 <= (8 << 20) ? x.n : 1;
  const PixelBuffer band(ctx, PixelFormat(nullptr, c), images * (rows + 2) * width);
  const int64_t max_tiles = images * rows / 2 * columns;
  const Scratch<int64_t> input(ctx, max_tiles), output(ctx, max_tiles);
  const Scratch<uint8_t> valid(ctx, max_tiles);
  const Panels weights(ctx, weights_);
  const int64_t padded = weights_.format().padded;
  if (ctx.measuring()) {
    const int64_t tile_rows = (x.h + 1) / 2;
    const double tiles = static_cast<double>(x.n * columns) * static_cast<double>(tile_rows);
    return layer.count(2.0 * kPlanes * tiles * static_cast<double>(padded * out.c));
  }
  const int64_t block = block_tiles();
  for (int64_t image = 0; image < x.n; image += images)
    for (int64_t first = 0; first < x.h; first += rows) {
      const int64_t tile_rows = (std::min(rows, x.h - first) + 1) / 2, band_height = 2 * tile_rows + 2;
      {
        const Profiled input_copy(ctx.profile, "convolution input: norm, padding", Compute::f32);
        copy_band(ctx, x, factors, {image, images, first - 1, band_height, 1, width}, band);
      }
      int64_t count = 0;
      for (int64_t i = 0; i < images; ++i)
        for (int64_t ty = 0; ty < tile_rows; ++ty)
          for (int64_t tx = 0; tx < columns; ++tx, ++count) {
            const int64_t y = first + 2 * ty, column = 2 * tx;
            input.data()[count] = ((i * band_height + 2 * ty) * width + column) * c;
            output.data()[count] = (((image + i) * x.h + y) * x.w + column) * out.c;
            const bool right = column + 1 < x.w, lower = y + 1 < x.h;
            valid.data()[count] = static_cast<uint8_t>(1 | right << 1 | lower << 2 | (right && lower) << 3);
          }
      const Tiles tiles{input.data(), output.data(), valid.data(), width * c, tile_rows * columns, image};
      layer.count(2.0 * kPlanes * static_cast<double>(count * padded * out.c));
      // Blocks do not cross images, as each image has its own image_bias.
      const int64_t blocks = (tiles.tiles_per_image + block - 1) / block;
      ctx.parallel(images * blocks, [&](int64_t task, int) {
        const int64_t i = task / blocks, begin = task % blocks * block;
        run_block(ctx, weights, reinterpret_cast<const float*>(band.data()), tiles,
                  i * tiles.tiles_per_image + begin, std::min(block, tiles.tiles_per_image - begin), bias,
                  epilogue, out);
      });
    }
}

void Winograd::run_block(Context& ctx, const Panels& weights, const float* band, const Tiles& tiles,
                         int64_t first, int64_t count, const float* bias, const Epilogue& epilogue,
                         const Tensor& out) const {
  const Kernels& kernels = ctx.kernels;
  const ReducedGemm* reduced = weights_.reduced();
  const int64_t padded = weights_.format().padded, nr = kernels.nr, c = weights_.inner().channels;
  const BlockScratch scratch(weights_, nr, count);
  const int64_t plane_scales = scratch.scales;
  float* transformed = thread_scratch(static_cast<size_t>(scratch.floats()));
  float* products = transformed + kPlanes * scratch.input;
  float* scales = products + kPlanes * scratch.products;
  if (reduced)
    reduced->winograd_input(band, tiles.input + first, count, c, tiles.row, padded, weights_.format().group,
                            transformed, scales);
  else
    kernels.winograd_input(band, tiles.input + first, count, c, tiles.row, padded, transformed);

  const std::vector<KGroup>& groups = weights_.groups();
  std::vector<KRun> runs;
  for (const KGroup& group : groups) runs.push_back({group.offset, group.length});
  GemmEpilogue to_products;
  to_products.ldc = nr;
  GemmArgs product;
  product.m = count;
  product.n = nr;
  product.k = weights_.k();
  product.lhs.ld = padded;
  product.lhs.runs = runs.data();
  product.lhs.run_count = static_cast<int64_t>(runs.size());
  ReducedGemmArgs reduced_product;
  reduced_product.m = count;
  reduced_product.n = nr;
  reduced_product.groups = groups.data();
  reduced_product.group_count = static_cast<int64_t>(groups.size());
  reduced_product.lhs.pixel_elements = padded;
  reduced_product.lhs.scales_per_pixel = weights_.format().groups();

  WinogradOutput output;
  output.products = products;
  output.tiles = count;
  output.ld = nr;
  output.offset = tiles.output + first;
  output.valid = tiles.valid + first;
  output.pixel = out.c;
  output.row = out.w * out.c;
  // Without a residual the two are the same; Winograd layers have no other activation.
  output.relu = epilogue.relu_after_residual || epilogue.activation == Activation::relu;
  const float* image_bias =
      epilogue.image_bias ? data(*epilogue.image_bias) + epilogue.image_bias_channel : nullptr;
  const int64_t image = tiles.first_image + first / tiles.tiles_per_image;
  const uint8_t* a = reinterpret_cast<const uint8_t*>(transformed);
  const int64_t plane_bytes = count * weights_.format().bytes();
  for (int64_t column = 0; column < out.c; column += nr) {
    for (int64_t plane = 0; plane < kPlanes; ++plane) {
      const uint8_t* b = weights.data(plane) + column / nr * weights_.panel_bytes();
      to_products.c = products + plane * count * nr;
      if (reduced) {
        reduced_product.lhs.data = a + plane * plane_bytes;
        reduced_product.lhs.scales = scales + plane * plane_scales;
        reduced_product.rhs = {b, weights_.panel_bytes()};
        reduced_product.epilogue = to_products;
        reduced->gemm(reduced_product, 0, count, 0, 1);
      } else {
        product.lhs.data = reinterpret_cast<const float*>(a + plane * plane_bytes);
        product.rhs.panels = reinterpret_cast<const float*>(b);
        product.epilogue = to_products;
        kernels.gemm(product, 0, count, 0, 1);
      }
    }
    output.columns = std::min(nr, out.c - column);
    output.c = data(out) + column;
    output.residual = epilogue.residual ? data(*epilogue.residual) + column : nullptr;
    output.bias = bias ? bias + column : nullptr;
    output.image_bias = image_bias ? image_bias + image * epilogue.image_bias->c + column : nullptr;
    kernels.winograd_output(output);
  }
}

}  // namespace nd::cpu
