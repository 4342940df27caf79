// Tiny autoencoder (TAESD, github.com/madebyollin/taesd; AutoencoderTiny of diffusers): a distilled
// autoencoder of convolutions with ReLU and no norms, which takes a hundredth of the KL autoencoder's work.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "nn/loader.h"
#include "nn/workspace.h"
#include "vae/chain.h"
#include "vae/plan.h"

namespace nd {

struct TinyVaeConfig {
  int64_t in_channels = 3;
  int64_t out_channels = 3;
  int64_t latent_channels = 4;
  int64_t width = 64;  // channels of every hidden layer
  // Residual blocks at each resolution, in the order of the layers. Empty: there is no encoder.
  std::vector<int64_t> encoder_blocks{1, 3, 3, 3};
  std::vector<int64_t> decoder_blocks{3, 3, 3, 1};

  /// Pixels of the image for each pixel of the latents, along one side.
  int64_t factor() const { return int64_t{1} << (decoder_blocks.size() - 1); }
  /// Error invalid_argument names the invalid field.
  void check() const;
};

/// Images of a batch are processed one at a time, so working memory does not grow with the batch. All methods
/// that compute throw Cancelled.
class TinyVae {
 public:
  /// Tensor names are diffusers'. Errors: invalid_argument (config), model_shape.
  TinyVae(const TinyVaeConfig& config, Loader& loader);
  ~TinyVae() = default;
  TinyVae(const TinyVae&) = delete;
  TinyVae& operator=(const TinyVae&) = delete;

  const TinyVaeConfig& config() const { return config_; }

  /// image [n][in_channels][h][w] in −1…1 → out [n][latent_channels][h/f][w/f], sizes rounded up. Error
  /// unsupported_model where there is no encoder. `max_bytes` as for Vae.
  void encode(const float* image, int64_t n, int64_t h, int64_t w, size_t max_bytes, float* out,
              const CancelToken* cancel);
  /// latents [n][latent_channels][h][w], scaled as the denoiser sees them → out [n][out_channels][f·h][f·w]
  /// in about −1…1.
  void decode(const float* latents, int64_t n, int64_t h, int64_t w, size_t max_bytes, float* out,
              const CancelToken* cancel);

  size_t encode_bytes(int64_t h, int64_t w, size_t max_bytes) const;
  size_t decode_bytes(int64_t h, int64_t w, size_t max_bytes) const;
  Plan encode_plan(int64_t h, int64_t w, size_t max_bytes) const;
  Plan decode_plan(int64_t h, int64_t w, size_t max_bytes) const;

  void trim() { workspace_.trim(); }

 private:
  void forward(ForwardContext& ctx, const Chain& chain, const PlanarSource& source, const Plan& plan,
               const PlanarTarget& target) const;
  Plan plan(const Chain& chain, const ImageShape& shape, size_t max_bytes) const;
  size_t bytes(const Chain& chain, const ImageShape& shape, const Plan& plan) const;
  void convert(const Chain& chain, const float* in, int64_t n, const ImageShape& shape, size_t max_bytes,
               float* out, const CancelToken* cancel);
  const Chain& encoder() const;

  TinyVaeConfig config_;
  Backend& backend_;
  std::vector<std::shared_ptr<const Conv2d>> encoder_layers_, decoder_layers_;
  Chain encoder_, decoder_;
  Workspace workspace_;
  mutable KnownPlans encode_plans_, decode_plans_;
};

}  // namespace nd
