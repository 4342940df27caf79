// The denoiser: latents, timestep and context → prediction. UNet2DConditionModel of diffusers (Rombach et al.
// 2022).
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "nn/loader.h"
#include "nn/workspace.h"
#include "unet/conditioning.h"
#include "unet/config.h"
#include "unet/deep_features.h"
#include "unet/encoder.h"

namespace nd {

/// Options that trade fidelity for speed; the defaults compute everything.
struct UnetOptions {
  /// Share of the tokens, 0…0.75, that are merged before self-attention at the highest resolution that has
  /// attention, see Backend::merge_tokens.
  double token_merging = 0;
  /// Where to keep the input of the last `depth` decoder layers; with `reuse`, and where it was kept for
  /// latents of this shape, only those layers are computed, and the encoder layers that they have skip
  /// connections to.
  DeepFeatures* deep = nullptr;
  int64_t depth = 0;  // 1…max_depth()
  bool reuse = false;
};

class Unet {
 public:
  /// Tensor names are diffusers'. Errors: invalid_argument (config), model_shape (a tensor is missing or has
  /// another shape).
  Unet(const UnetConfig& config, Loader& loader);

  const UnetConfig& config() const { return encoder_.config(); }
  /// Identifies these weights in this process: no others ever have the same number.
  uint64_t weights_id() const { return weights_id_; }

  /// → out [n][out_channels][h][w], unless input.resident keeps it. Any h, w ≥ 1. Throws Cancelled. Error
  /// invalid_argument: a size below 1, or a condition that this model lacks or needs.
  void predict(const UnetInput& input, float* out, const CancelToken* cancel,
               const UnetOptions& options = {});

  /// Error invalid_argument: an option is out of its bounds.
  void check(const UnetOptions& options) const;
  /// Error invalid_argument: a condition of n images is missing, is not one of this model, or has another
  /// width. The context is not checked.
  void check(const Conditioning& conditioning, int64_t n) const { encoder_.time().check(conditioning, n); }
  /// The greatest `depth`: all decoder layers but one. 0: there is only one.
  int64_t max_depth() const { return decoder_layers_ - 1; }

  /// Computes ahead, all at once, what depends on everything in n rows of conditions but the context (for the
  /// first TimestepCache::kMaxEntries rows): predict() would read the same weights once for each timestep.
  /// Throws Cancelled. Error invalid_argument as predict().
  void prepare(const Conditioning& conditioning, int64_t n, const CancelToken* cancel);

  /// Bytes of working memory that such a call needs, computed without allocating it. Includes what is kept
  /// from one call to the next and, with options.depth, deep features.
  size_t working_bytes(int64_t n, int64_t h, int64_t w, int64_t length, const UnetOptions& options = {},
                       const std::vector<ImagePrompt>& images = {}) const;

  /// Bytes of working memory that are held until trim().
  size_t held_bytes() const { return workspace_.bytes() + encoder_.held_bytes(); }
  /// Releases working memory; the next call allocates it again.
  void trim();

 private:
  struct DecoderLevel {
    std::vector<const UnetLayer*> layers;
    std::shared_ptr<const Conv2d> upsample;  // or null
  };
  struct Pass;

  void load_decoder(Loader& loader);
  Tensor forward(ForwardContext& ctx, const Pass& given) const;
  /// Puts a prediction where its input says.
  void give(ForwardContext& ctx, const Tensor& prediction, const UnetInput& input, float* out) const;
  void predict_repeated(const Pass& given, float* out, const CancelToken* cancel);
  void add_residuals(ForwardContext& ctx, const KeptTensors& residuals, const std::vector<Tensor>& skips,
                     const Tensor& middle) const;
  Tensor decode(ForwardContext& ctx, const Pass& given, const UnetPass& pass, Tensor x,
                std::vector<Tensor> skips) const;

  Backend& backend_;
  const uint64_t weights_id_;
  UnetEncoder encoder_;
  std::shared_ptr<const Conv2d> conv_out_;
  std::vector<DecoderLevel> decoder_;
  std::shared_ptr<const GroupNorm> norm_out_;
  int64_t decoder_layers_ = 0;
  Workspace workspace_;
  StagedNumbers staged_;
};

}  // namespace nd
