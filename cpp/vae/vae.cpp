#include "vae/vae.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/error.h"

namespace nd {
namespace {

void require_sizes(int64_t n, int64_t h, int64_t w, int64_t min_side) {
  if (n >= 1 && h >= min_side && w >= min_side) return;
  throw Error(ErrorCode::invalid_argument, "Expected at least 1 image of at least " +
                                               std::to_string(min_side) + "x" + std::to_string(min_side) +
                                               " but received " + std::to_string(n) + " of " +
                                               std::to_string(h) + "x" + std::to_string(w));
}

}  // namespace

Vae::Vae(const VaeConfig& config, Loader& loader)
    : config_(config), backend_(loader.backend()), workspace_(backend_) {
  config.check();
  loader.precision().i8_allowed = false;
  loader.precision().prefers_i16 = true;
  {
    const OncePerImage rare(loader);  // only where an image is given
    encoder_ = Encoder(loader, config);
  }
  decoder_ = Decoder(loader, config);
  if (config.vector_quantized())
    codebook_ = loader.codebook("quantize.embedding.weight", config.codebook_size, config.codebook_width);
}

template <class Coder>
size_t Vae::measure(const Coder& coder, const ImageShape& shape, const Plan& plan) const {
  return Workspace::measure(backend_, [&](ForwardContext& ctx) {
    coder.forward(ctx, {nullptr, shape}, plan, nullptr);
  });
}

Plan Vae::encode_plan(int64_t h, int64_t w, size_t max_bytes) const {
  const ImageShape shape{h, w, config_.in_channels};
  return encode_plans_.choose(encoder_.chain(), shape, max_bytes, backend_.max_elements(),
                              [&](const Plan& plan) { return measure(encoder_, shape, plan); });
}

Plan Vae::decode_plan(int64_t h, int64_t w, size_t max_bytes) const {
  const ImageShape shape{h, w, config_.decoded_channels()};
  return decode_plans_.choose(decoder_.chain(), {h, w, config_.block_channels.back()}, max_bytes,
                              backend_.max_elements(),
                              [&](const Plan& plan) { return measure(decoder_, shape, plan); });
}

void Vae::encode(const float* image, int64_t n, int64_t h, int64_t w, size_t max_bytes, float* out,
                 const CancelToken* cancel) {
  const int64_t f = config_.factor();
  require_sizes(n, h, w, f);
  const ImageShape shape{h, w, config_.in_channels};
  const Plan plan = encode_plan(h, w, max_bytes);
  const int64_t size = config_.moment_channels() * (h / f) * (w / f);
  for (int64_t i = 0; i < n; ++i) {
    workspace_.run(cancel, [&](ForwardContext& ctx) {
      encoder_.forward(ctx, {image + i * shape.size(), shape}, plan, out + i * size);
    });
  }
}

void Vae::decode(const float* latents, int64_t n, int64_t h, int64_t w, size_t max_bytes, float* out,
                 const CancelToken* cancel) {
  const int64_t f = config_.factor();
  require_sizes(n, h, w, 1);
  const ImageShape shape{h, w, config_.decoded_channels()};
  const Plan plan = decode_plan(h, w, max_bytes);
  const int64_t size = config_.out_channels * h * w * f * f;
  for (int64_t i = 0; i < n; ++i) {
    workspace_.run(cancel, [&](ForwardContext& ctx) {
      decoder_.forward(ctx, {latents + i * shape.size(), shape}, plan, out + i * size);
    });
  }
}

size_t Vae::encode_bytes(int64_t h, int64_t w, size_t max_bytes) const {
  require_sizes(1, h, w, config_.factor());
  return measure(encoder_, {h, w, config_.in_channels}, encode_plan(h, w, max_bytes));
}

size_t Vae::decode_bytes(int64_t h, int64_t w, size_t max_bytes) const {
  require_sizes(1, h, w, 1);
  return measure(decoder_, {h, w, config_.decoded_channels()}, decode_plan(h, w, max_bytes));
}

const Codebook& Vae::codebook() const {
  if (codebook_) return *codebook_;
  throw Error(ErrorCode::unsupported_model, "This autoencoder has no codebook");
}

void Vae::quantize(const float* latents, int64_t n, int64_t h, int64_t w, int32_t* codes,
                   const CancelToken* cancel) {
  require_sizes(n, h, w, 1);
  const Codebook& book = codebook();
  workspace_.run(cancel, [&](ForwardContext& ctx) {
    const Tensor x = backend_.from_planar(ctx, latents, n, config_.decoded_channels(), h, w);
    book.quantize(ctx, x, codes);
  });
}

void Vae::lookup(const int32_t* codes, int64_t n, int64_t h, int64_t w, float* latents) const {
  require_sizes(n, h, w, 1);
  const Codebook& book = codebook();
  for (int64_t i = 0; i < n * h * w; ++i) {
    if (codes[i] >= 0 && codes[i] < book.size()) continue;
    throw Error(ErrorCode::invalid_argument, "Expected codes between 0 and " +
                                                 std::to_string(book.size() - 1) + " but received " +
                                                 std::to_string(codes[i]) + " at index " + std::to_string(i));
  }
  book.lookup(codes, n, h * w, latents);
}

}  // namespace nd
