// What makes one autoencoder differ from another, as data.
#pragma once
#include <cstdint>
#include <vector>

namespace nd {

/// AutoencoderKL (Rombach et al. 2022); with a codebook, VQModel (van den Oord et al. 2017; Esser et al.
/// 2021). block_channels has one element for each resolution level, highest resolution first.
struct VaeConfig {
  int64_t in_channels = 3;
  int64_t out_channels = 3;
  int64_t latent_channels = 4;
  std::vector<int64_t> block_channels;
  int64_t layers_per_block = 2;
  int64_t norm_groups = 32;
  bool mid_attention = true;
  bool quant_conv = true;
  bool post_quant_conv = true;
  int64_t codebook_size = 0;  // 0: no codebook
  int64_t codebook_width = 0;

  bool vector_quantized() const { return codebook_size > 0; }
  /// Pixels of the image for each pixel of the latents, along one side.
  int64_t factor() const { return int64_t{1} << (block_channels.size() - 1); }
  /// Channels that the encoder's last convolution gives: mean and log variance, or the latents themselves.
  int64_t encoder_channels() const { return vector_quantized() ? latent_channels : 2 * latent_channels; }
  /// Channels of what encode() writes.
  int64_t moment_channels() const { return vector_quantized() ? decoded_channels() : 2 * latent_channels; }
  /// Channels of what decode() reads.
  int64_t decoded_channels() const { return vector_quantized() ? codebook_width : latent_channels; }
  /// Error invalid_argument names the invalid field.
  void check() const;
};

constexpr float kVaeNormEps = 1e-6f;  // every norm of the published autoencoders

}  // namespace nd
