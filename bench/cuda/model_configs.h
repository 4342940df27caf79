// The published models that are measured, without their weights.
#pragma once
#include <string>
#include <vector>

#include "text/text_encoder.h"
#include "unet/config.h"
#include "vae/config.h"

namespace nd::cuda_bench {

/// A text encoder, and what a UNet takes of it.
struct TextPart {
  TextEncoderConfig config;
  int64_t skip = 0;
  bool final_norm = true;
  bool pools = false;
};

struct ModelConfig {
  std::string title;            // of rows in a report
  std::vector<TextPart> texts;  // their hidden states lie side by side in the context
  UnetConfig unet;
  VaeConfig vae;
  float scaling = 1;           // of latents
  std::vector<int64_t> sides;  // of latents that are measured

  /// Of latents, divided as the channels are, but large enough for every level.
  int64_t shrunk(int64_t side, int64_t shrink) const;
};

/// Channels and heads are divided by `shrink`, a power of two.
ModelConfig stable_diffusion(int64_t shrink = 1);
ModelConfig stable_diffusion_xl(int64_t shrink = 1);
/// The model that the command line calls `name`: sd15 or sdxl. Error invalid_argument: another name.
ModelConfig model_config(const std::string& name, int64_t shrink);

}  // namespace nd::cuda_bench
