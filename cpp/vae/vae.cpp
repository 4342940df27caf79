#include "vae/vae.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/error.h"

namespace nd {
namespace {

void require_sizes(int64_t n, int64_t h, int64_t w, int64_t least) {
  if (n >= 1 && h >= least && w >= least) return;
  throw Error(ErrorCode::invalid_argument, "Expected at least 1 image of at least " + std::to_string(least) +
                                               "x" + std::to_string(least) + " but received " +
                                               std::to_string(n) + " of " + std::to_string(h) + "x" +
                                               std::to_string(w));
}

}  // namespace

Vae::Vae(const VaeConfig& config, Loader& loader) : config_(config), kernels_(loader.kernels) {
  config.check();
  // Eight bits show in flat areas of the image.
  loader.int8_allowed = false;
  encoder_ = Encoder(loader, config);
  decoder_ = Decoder(loader, config);
  if (config.vector_quantized()) {
    codebook_ = Codebook(loader, "quantize.embedding.weight", config.codebook_size, config.codebook_width);
  }
}

void Vae::encode(const float* image, int64_t n, int64_t h, int64_t w, const Tiling* tiling, float* out,
                 const CancelToken* cancel) {
  const int64_t f = config_.factor(), in = config_.in_channels, channels = config_.moment_channels();
  require_sizes(n, h, w, f);
  if (tiling) tiling->check();
  const int64_t rows = h / f, columns = w / f;
  const TileAxis y_axis(rows, tiling), x_axis(columns, tiling);
  std::fill_n(out, n * channels * rows * columns, 0.0f);
  // A tile at the right or bottom edge takes the pixels beyond the last whole latent along, as the whole
  // image would.
  const auto extent = [f](const TileAxis& axis, int64_t index, int64_t length) {
    const int64_t begin = axis.begins[static_cast<size_t>(index)] * f;
    return (index + 1 == axis.count() ? length : begin + axis.size * f) - begin;
  };
  for (int64_t i = 0; i < n; ++i, image += in * h * w, out += channels * rows * columns) {
    for (int64_t ty = 0; ty < y_axis.count(); ++ty) {
      for (int64_t tx = 0; tx < x_axis.count(); ++tx) {
        const int64_t y = y_axis.begins[static_cast<size_t>(ty)], x = x_axis.begins[static_cast<size_t>(tx)];
        const auto row_shares = y_axis.shares(ty, 1), column_shares = x_axis.shares(tx, 1);
        workspace_.run(kernels_, cancel, [&](Run& run) {
          Feature tile =
              crop_planar(run, image, in, h, w, y * f, x * f, extent(y_axis, ty, h), extent(x_axis, tx, w));
          tile = encoder_.forward(run, std::move(tile));
          add_tile(run, tile, row_shares, column_shares, y, x, rows, columns, out);
        });
      }
    }
  }
}

void Vae::decode(const float* latents, int64_t n, int64_t h, int64_t w, const Tiling* tiling, float* out,
                 const CancelToken* cancel) {
  const int64_t f = config_.factor(), in = config_.decoded_channels(), channels = config_.out_channels;
  require_sizes(n, h, w, 1);
  if (tiling) tiling->check();
  const TileAxis y_axis(h, tiling), x_axis(w, tiling);
  std::fill_n(out, n * channels * h * w * f * f, 0.0f);
  for (int64_t i = 0; i < n; ++i, latents += in * h * w, out += channels * h * w * f * f) {
    for (int64_t ty = 0; ty < y_axis.count(); ++ty) {
      for (int64_t tx = 0; tx < x_axis.count(); ++tx) {
        const int64_t y = y_axis.begins[static_cast<size_t>(ty)], x = x_axis.begins[static_cast<size_t>(tx)];
        const auto row_shares = y_axis.shares(ty, f), column_shares = x_axis.shares(tx, f);
        workspace_.run(kernels_, cancel, [&](Run& run) {
          Feature tile = crop_planar(run, latents, in, h, w, y, x, y_axis.size, x_axis.size);
          tile = decoder_.forward(run, std::move(tile));
          add_tile(run, tile, row_shares, column_shares, y * f, x * f, h * f, w * f, out);
        });
      }
    }
  }
}

size_t Vae::encode_bytes(int64_t h, int64_t w) const {
  require_sizes(1, h, w, config_.factor());
  return Workspace::measure(
      kernels_, [&](Run& run) { encoder_.forward(run, Feature(run, 1, h, w, config_.in_channels)); });
}

size_t Vae::decode_bytes(int64_t h, int64_t w) const {
  require_sizes(1, h, w, 1);
  return Workspace::measure(
      kernels_, [&](Run& run) { decoder_.forward(run, Feature(run, 1, h, w, config_.decoded_channels())); });
}

const Codebook& Vae::codebook() const {
  if (config_.vector_quantized()) return codebook_;
  throw Error(ErrorCode::unsupported_model, "This autoencoder has no codebook");
}

void Vae::quantize(const float* latents, int64_t n, int64_t h, int64_t w, int32_t* codes,
                   const CancelToken* cancel) {
  require_sizes(n, h, w, 1);
  const Codebook& book = codebook();
  workspace_.run(kernels_, cancel, [&](Run& run) { book.quantize(run, latents, n, h * w, codes); });
}

void Vae::lookup(const int32_t* codes, int64_t n, int64_t h, int64_t w, float* latents) const {
  require_sizes(n, h, w, 1);
  codebook().lookup(codes, n, h * w, latents);
}

}  // namespace nd
