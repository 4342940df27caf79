// Image ⇄ latents: the autoencoder that latent diffusion works inside of. AutoencoderKL and VQModel of
// diffusers.
#pragma once
#include <cstdint>

#include "core/cancel.h"
#include "core/weights.h"
#include "nn/run.h"
#include "vae/codebook.h"
#include "vae/coder.h"
#include "vae/config.h"
#include "vae/tiling.h"

namespace nd {

/// Images of a batch are processed one after the other: working memory is that of one. All methods that
/// compute throw Cancelled.
class Vae {
 public:
  /// Tensor names are diffusers'. Errors: invalid_argument (config), model_shape (a tensor is missing or has
  /// another shape).
  Vae(const VaeConfig& config, Loader& loader);

  const VaeConfig& config() const { return config_; }

  /// image [n][in_channels][h][w] → out [n][moment_channels][h/f][w/f], sizes rounded down, at least 1: mean,
  /// then log variance; VQModel: latents before quantization. tiling may be null.
  void encode(const float* image, int64_t n, int64_t h, int64_t w, const Tiling* tiling, float* out,
              const CancelToken* cancel);
  /// latents [n][decoded_channels][h][w], unscaled (VQModel: quantized) → out [n][out_channels][f·h][f·w].
  void decode(const float* latents, int64_t n, int64_t h, int64_t w, const Tiling* tiling, float* out,
              const CancelToken* cancel);

  /// Bytes of working memory of an untiled call on images (latents) of this size, computed without allocating
  /// it.
  size_t encode_bytes(int64_t h, int64_t w) const;
  size_t decode_bytes(int64_t h, int64_t w) const;

  /// VQModel only (else Error unsupported_model). latents [n][codebook_width][h][w] ⇄ codes [n][h][w]: the
  /// nearest by squared distance, the first of equals. Error invalid_argument: a code outside the book.
  void quantize(const float* latents, int64_t n, int64_t h, int64_t w, int32_t* codes,
                const CancelToken* cancel);
  void lookup(const int32_t* codes, int64_t n, int64_t h, int64_t w, float* latents) const;

  /// Gives working memory back; the next call allocates it again.
  void trim() { workspace_.trim(); }

 private:
  const Codebook& codebook() const;

  VaeConfig config_;
  const Kernels& kernels_;
  Encoder encoder_;
  Decoder decoder_;
  Codebook codebook_;
  Workspace workspace_;
};

}  // namespace nd
