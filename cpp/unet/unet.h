// The denoiser: latents, timestep and context → prediction. UNet2DConditionModel of diffusers (Rombach et al.
// 2022).
#pragma once
#include <cstdint>
#include <vector>

#include "core/cancel.h"
#include "core/weights.h"
#include "nn/conv2d.h"
#include "nn/norm.h"
#include "nn/res_block.h"
#include "nn/run.h"
#include "unet/config.h"
#include "unet/timestep.h"
#include "unet/transformer.h"
#include "unet/upsample.h"

namespace nd {

class Unet {
 public:
  /// Tensor names are diffusers'. Errors: invalid_argument (config), model_shape (a tensor is missing or has
  /// another shape).
  Unet(const UnetConfig& config, Loader& loader);

  const UnetConfig& config() const { return config_; }

  /// latents [n][in_channels][h][w], timesteps [n] (each image its own), context [n][length][context_width]
  /// → out [n][out_channels][h][w]. Any h, w ≥ 1. Throws Cancelled.
  void predict(const float* latents, int64_t n, int64_t h, int64_t w, const float* timesteps,
               const float* context, int64_t length, float* out, const CancelToken* cancel);

  /// Bytes of working memory that such a call needs, computed without allocating it.
  size_t working_bytes(int64_t n, int64_t h, int64_t w, int64_t length) const;

  /// Gives working memory back; the next call allocates it again.
  void trim() { workspace_.trim(); }

 private:
  /// One residual block and, where the level attends, the transformer after it.
  struct Layer {
    ResBlock block;
    std::vector<SpatialTransformer> attention;  // none or one
  };
  struct Down {
    std::vector<Layer> layers;
    std::vector<Conv2d> downsample;  // none or one
  };
  struct Up {
    std::vector<Layer> layers;
    std::vector<Upsample> upsample;  // none or one
  };
  struct Input {
    const float* latents;
    int64_t n, h, w;
    const float* timesteps;
    const float* context;
    int64_t length;
  };

  Layer make_layer(Loader& loader, const std::string& prefix, int64_t index, int64_t in, int64_t level,
                   int64_t depth) const;
  void load_down(Loader& loader);
  void load_middle(Loader& loader);
  void load_up(Loader& loader);
  Feature forward(Run& run, const Input& input) const;

  UnetConfig config_;
  const Kernels& kernels_;
  TimestepEmbedding time_;
  Conv2d conv_in_, conv_out_;
  std::vector<Down> down_;
  std::vector<Layer> middle_;  // none, one without attention, or two, of which the first attends
  std::vector<Up> up_;
  GroupNorm norm_out_;
  Workspace workspace_;
};

}  // namespace nd
