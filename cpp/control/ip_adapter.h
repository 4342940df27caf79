// IP-Adapter (Ye et al. 2023, "IP-Adapter: Text Compatible Image Prompt Adapter for Text-to-Image Diffusion
// Models"): embeddings of images → keys and values of every cross-attention of a UNet, which stay in the
// device's memory for a run.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "control/image_projection.h"
#include "nn/loader.h"
#include "nn/workspace.h"
#include "unet/config.h"
#include "unet/image_prompts.h"
#include "unet/kept_tensors.h"

namespace nd {

struct IpAdapterConfig {
  ImageProjectionConfig projection;
  UnetConfig unet;  // that it was made for

  /// Error invalid_argument names the invalid field.
  void check() const;
};

/// Embeddings [count][images][rows][width], of which each `images` together are one prompt, and the mask.
struct ImagePromptInput {
  const float* embeddings = nullptr;
  int64_t count = 1, images = 1, rows = 1;
  /// Of each level, as large as its features for latents of h × w, one after the other; null: none.
  const float* masks = nullptr;
  int64_t h = 0, w = 0;
  /// Embeddings of faces [count][images][face_width], for a projection that takes them.
  const float* faces = nullptr;
};

/// Bytes of working memory that encoding a prompt takes, and of what it keeps.
struct ImagePromptMemory {
  size_t working = 0, kept = 0;
};

class IpAdapter {
 public:
  /// Tensor names are those of the files: `image_proj.…` as ImageProjection has them, and for each
  /// cross-attention `ip_adapter.N.to_k_ip`, `…to_v_ip`. N is counted as diffusers lists a UNet's attentions:
  /// encoder, decoder, middle block; self-attentions count, too, so it is odd. Errors: invalid_argument
  /// (config), model_shape.
  IpAdapter(const IpAdapterConfig& config, Loader& loader);

  const IpAdapterConfig& config() const { return config_; }
  /// Features of the masks of all levels for latents of h × w.
  int64_t mask_floats(int64_t h, int64_t w) const;

  /// What an ImagePrompt keeps. Error invalid_argument: a size below 1. Throws Cancelled.
  void encode(const ImagePromptInput& input, KeptTensors& to, const CancelToken* cancel);

  /// Without allocating it.
  ImagePromptMemory memory(const ImagePromptInput& input) const;

  void trim() { workspace_.trim(); }

 private:
  void forward(ForwardContext& ctx, const ImagePromptInput& input, KeptTensors& to) const;

  IpAdapterConfig config_;
  Backend& backend_;
  ImageProjection projection_;
  std::vector<std::shared_ptr<const Linear>> keys_values_;
  Workspace workspace_;
};

}  // namespace nd
