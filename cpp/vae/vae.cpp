#include "vae/vae.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/error.h"
#include "vae/plan.h"

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
  {
    const Rarely rarely(loader);  // only where a picture begins with one
    encoder_ = Encoder(loader, config);
  }
  decoder_ = Decoder(loader, config);
  if (config.vector_quantized()) {
    codebook_ = Codebook(loader, "quantize.embedding.weight", config.codebook_size, config.codebook_width);
  }
}

template <class Coder>
size_t Vae::measure(const Coder& coder, const Side& side, const Plan& plan) const {
  return Workspace::measure(kernels_, [&](Run& run) { coder.forward(run, {nullptr, side}, plan, nullptr); });
}

Plan Vae::encode_plan(int64_t h, int64_t w, size_t most) const {
  const Side side{h, w, config_.in_channels};
  return choose_plan(encoder_.chain(), side, most,
                     [&](const Plan& plan) { return measure(encoder_, side, plan); });
}

Plan Vae::decode_plan(int64_t h, int64_t w, size_t most) const {
  const Side side{h, w, config_.decoded_channels()};
  return choose_plan(decoder_.chain(), {h, w, config_.block_channels.back()}, most,
                     [&](const Plan& plan) { return measure(decoder_, side, plan); });
}

void Vae::encode(const float* image, int64_t n, int64_t h, int64_t w, size_t most, float* out,
                 const CancelToken* cancel) {
  const int64_t f = config_.factor();
  require_sizes(n, h, w, f);
  const Side side{h, w, config_.in_channels};
  const Plan plan = encode_plan(h, w, most);
  const int64_t size = config_.moment_channels() * (h / f) * (w / f);
  for (int64_t i = 0; i < n; ++i) {
    workspace_.run(kernels_, cancel, [&](Run& run) {
      encoder_.forward(run, {image + i * side.size(), side}, plan, out + i * size);
    });
  }
}

void Vae::decode(const float* latents, int64_t n, int64_t h, int64_t w, size_t most, float* out,
                 const CancelToken* cancel) {
  const int64_t f = config_.factor();
  require_sizes(n, h, w, 1);
  const Side side{h, w, config_.decoded_channels()};
  const Plan plan = decode_plan(h, w, most);
  const int64_t size = config_.out_channels * h * w * f * f;
  for (int64_t i = 0; i < n; ++i) {
    workspace_.run(kernels_, cancel, [&](Run& run) {
      decoder_.forward(run, {latents + i * side.size(), side}, plan, out + i * size);
    });
  }
}

size_t Vae::encode_bytes(int64_t h, int64_t w, size_t most) const {
  require_sizes(1, h, w, config_.factor());
  return measure(encoder_, {h, w, config_.in_channels}, encode_plan(h, w, most));
}

size_t Vae::decode_bytes(int64_t h, int64_t w, size_t most) const {
  require_sizes(1, h, w, 1);
  return measure(decoder_, {h, w, config_.decoded_channels()}, decode_plan(h, w, most));
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
