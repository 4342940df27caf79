// Image ⇄ latents: AutoencoderKL and VQModel of diffusers.
#pragma once
#include <cstdint>
#include <memory>

#include "nn/loader.h"
#include "nn/workspace.h"
#include "vae/coder.h"
#include "vae/config.h"
#include "vae/plan.h"

namespace nd {

/// Images of a batch are processed one at a time, so working memory does not grow with the batch. All methods
/// that compute throw Cancelled.
class Vae {
 public:
  /// Tensor names are diffusers'. Errors: invalid_argument (config), model_shape (a tensor is missing or has
  /// another shape).
  Vae(const VaeConfig& config, Loader& loader);

  const VaeConfig& config() const { return config_; }

  /// image [n][in_channels][h][w] → out [n][moment_channels][h/f][w/f], sizes rounded down, at least 1: mean,
  /// then log variance; VQModel: latents before quantization. Takes at most `max_bytes` of working memory
  /// where that is possible. Less memory takes longer; the result differs only by rounding.
  void encode(const float* image, int64_t n, int64_t h, int64_t w, size_t max_bytes, float* out,
              const CancelToken* cancel);
  /// latents [n][decoded_channels][h][w], unscaled (VQModel: quantized) → out [n][out_channels][f·h][f·w].
  void decode(const float* latents, int64_t n, int64_t h, int64_t w, size_t max_bytes, float* out,
              const CancelToken* cancel);

  /// Bytes of working memory of such a call on images (latents) of this size, computed without allocating
  /// them.
  size_t encode_bytes(int64_t h, int64_t w, size_t max_bytes) const;
  size_t decode_bytes(int64_t h, int64_t w, size_t max_bytes) const;

  /// The plan of such a call.
  Plan encode_plan(int64_t h, int64_t w, size_t max_bytes) const;
  Plan decode_plan(int64_t h, int64_t w, size_t max_bytes) const;

  /// VQModel only (else Error unsupported_model). latents [n][codebook_width][h][w] ⇄ codes [n][h][w]: the
  /// nearest by squared distance, the first of equals. Error invalid_argument: a code outside the book.
  void quantize(const float* latents, int64_t n, int64_t h, int64_t w, int32_t* codes,
                const CancelToken* cancel);
  void lookup(const int32_t* codes, int64_t n, int64_t h, int64_t w, float* latents) const;

  /// Releases working memory; the next call allocates it again.
  void trim() { workspace_.trim(); }

 private:
  const Codebook& codebook() const;
  template <class Coder>
  size_t measure(const Coder& coder, const ImageShape& shape, const Plan& plan) const;

  VaeConfig config_;
  Backend& backend_;
  Encoder encoder_;
  Decoder decoder_;
  std::shared_ptr<const Codebook> codebook_;  // or null
  Workspace workspace_;
  mutable KnownPlans encode_plans_, decode_plans_;
};

}  // namespace nd
