// k-diffusion's UNet (Crowson 2022), which the ×2 latent upscaler of Stable Diffusion is:
// UNet2DConditionModel of diffusers with K-blocks. It has no middle block, one skip connection for each
// level, and resamples by fixed filters.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "nn/loader.h"
#include "nn/workspace.h"
#include "unet/caches.h"
#include "unet/conditioning.h"
#include "unet/k_blocks.h"
#include "unet/k_config.h"
#include "unet/repeated.h"

namespace nd {

class KUnet {
 public:
  /// Tensor names are diffusers'. Errors: invalid_argument (config), model_shape (a tensor is missing or has
  /// another shape).
  KUnet(const KUnetConfig& config, Loader& loader);

  const KUnetConfig& config() const { return config_; }
  /// Error invalid_argument: a side that is not a multiple of side_multiple(), no context, or no time
  /// condition.
  void check(const UnetInput& input) const;
  /// → out [n][out_channels][h][w]. The errors of check(). Throws Cancelled.
  void predict(const UnetInput& input, float* out, const CancelToken* cancel);
  /// Computes ahead, all at once, what n rows of timesteps and time conditions give (the first
  /// TimestepCache::kMaxEntries of them). Throws Cancelled. Error invalid_argument: there is no time
  /// condition.
  void prepare(const Conditioning& conditioning, int64_t n, const CancelToken* cancel);

  /// Bytes of working memory that such a call needs, computed without allocating it, with what is kept from
  /// one call to the next.
  size_t working_bytes(int64_t n, int64_t h, int64_t w, int64_t length) const;
  /// Bytes of working memory that are held until trim().
  size_t held_bytes() const { return workspace_.bytes() + contexts_.bytes() + timesteps_.bytes(); }
  /// Releases working memory; the next call allocates it again.
  void trim();

 private:
  struct Layer {
    KResBlock block;
    std::unique_ptr<KAttention> attention;  // or null
    size_t number;                          // of its attention
  };
  using Level = std::vector<Layer>;
  /// What everything but the context and the latents of a batch is: timestep, then condition. [n][key_floats]
  struct Keys {
    std::vector<float> values;
    int64_t n = 0;
  };

  Level load_level(Loader& loader, const std::string& prefix, const std::vector<KResBlockOptions>& blocks,
                   bool attends, bool attends_to_image);
  void load_encoder(Loader& loader);
  void load_decoder(Loader& loader);
  KResBlockOptions block_options(int64_t level) const;

  int64_t key_floats() const { return 1 + config_.condition_width; }
  Keys keys(const Conditioning& conditioning, int64_t n) const;
  void cache_modulations(const Keys& keys, const CancelToken* cancel);
  void compute_modulations(ForwardContext& ctx, const Keys& keys,
                           std::vector<std::vector<uint8_t>>& rows) const;
  size_t modulation_bytes() const { return static_cast<size_t>(places_.channels) * backend_.element_bytes(); }
  Tensor embed_time(ForwardContext& ctx, const Keys& keys) const;
  std::vector<size_t> packed_offsets(int64_t length) const;
  void pack(ForwardContext& ctx, const float* contexts, int64_t length,
            const std::vector<ContextCache::Fresh>& fresh) const;
  PackedContext cache_context(const Conditioning& conditioning, int64_t n, const CancelToken* cancel);
  /// `staged_modulations`: elements [n][channels of all norms] on the host, or null for those of the cache.
  Tensor forward(ForwardContext& ctx, const UnetInput& input, const Keys& keys, const PackedContext& context,
                 const uint8_t* staged_modulations) const;
  void predict_repeated(const UnetInput& input, const Keys& keys, const PackedContext& context, float* out,
                        const CancelToken* cancel);

  const KUnetConfig config_;
  Backend& backend_;
  ModulationPlaces places_;
  std::vector<float> frequencies_;  // of the timestep's waves, [time_width / 2]
  std::shared_ptr<const Linear> condition_, time1_, time2_;
  std::shared_ptr<const Conv2d> conv_in_, conv_out_;
  std::vector<Level> encoder_, decoder_;  // the decoder from the lowest resolution
  std::vector<const AdaptiveGroupNorm*> norms_;
  std::vector<const KAttention*> attentions_;
  TimestepCache timesteps_;
  ContextCache contexts_;
  Workspace workspace_;
  StagedNumbers staged_;
};

}  // namespace nd
