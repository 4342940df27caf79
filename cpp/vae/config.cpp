#include "vae/config.h"

#include <string>

#include "core/require.h"

namespace nd {
void VaeConfig::check() const {
  require(!block_channels.empty(), "Expected VAE blockChannels to have at least 1 element but received none");
  require(in_channels >= 1 && out_channels >= 1 && latent_channels >= 1 && layers_per_block >= 1,
          "Expected VAE inChannels, outChannels, latentChannels and layersPerBlock of at least 1");
  require(norm_groups >= 1, "Expected VAE normGroups of at least 1");
  for (int64_t channels : block_channels) {
    require(channels >= 1 && channels % norm_groups == 0, "Expected VAE normGroups to divide blockChannels " +
                                                              std::to_string(channels) + " but received " +
                                                              std::to_string(norm_groups));
  }
  require(codebook_size >= 0 && (codebook_size == 0 || codebook_width >= 1),
          "Expected a VAE codebook of at least 1 code and width 1");
  require(!vector_quantized() || (quant_conv && post_quant_conv) || codebook_width == latent_channels,
          "Expected VAE codebook.width to be latentChannels, " + std::to_string(latent_channels) +
              ", where a quantization convolution is missing, but received " +
              std::to_string(codebook_width));
}

}  // namespace nd
