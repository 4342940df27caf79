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
#include "unet/deep_features.h"
#include "unet/prepared.h"
#include "unet/timestep.h"
#include "unet/transformer.h"
#include "unet/upsample.h"

namespace nd {

/// Ways to compute less than all of it; the defaults are none.
struct UnetOptions {
  /// Share of the tokens, 0…0.75, that self-attention leaves out where the resolution is highest, see
  /// TokenMerge.
  double token_merging = 0;
  /// Where to keep what the last `depth` layers of the way up get from below; with `reuse`, and where it was
  /// kept for latents of this shape, only those layers are computed, and as many of the way down as they look
  /// at.
  DeepFeatures* deep = nullptr;
  int64_t depth = 0;  // 1…most_depth()
  bool reuse = false;
};

class Unet {
 public:
  /// Tensor names are diffusers'. Errors: invalid_argument (config), model_shape (a tensor is missing or has
  /// another shape).
  Unet(const UnetConfig& config, Loader& loader);

  const UnetConfig& config() const { return config_; }

  /// latents [n][in_channels][h][w], timesteps [n] (each image its own), context [n][length][context_width]
  /// → out [n][out_channels][h][w]. Any h, w ≥ 1. Throws Cancelled.
  void predict(const float* latents, int64_t n, int64_t h, int64_t w, const float* timesteps,
               const float* context, int64_t length, float* out, const CancelToken* cancel,
               const UnetOptions& options = {});

  /// Error invalid_argument: an option is out of its bounds.
  void check(const UnetOptions& options) const;
  /// The greatest `depth`: all layers of the way up but one. 0: there is but one.
  int64_t most_depth() const { return up_layers_ - 1; }

  /// Computes what depends on the timesteps alone ahead, all at once (the first TimeTable::kMost of them):
  /// predict() would read the same weights once for each. Throws Cancelled.
  void prepare(const float* timesteps, int64_t n, const CancelToken* cancel);

  /// Bytes of working memory that such a call needs, computed without allocating it; what is kept from one
  /// call to the next is included, with options.depth deep features too.
  size_t working_bytes(int64_t n, int64_t h, int64_t w, int64_t length,
                       const UnetOptions& options = {}) const;

  /// Bytes of working memory that are held until trim().
  size_t held_bytes() const { return workspace_.bytes() + contexts_.bytes() + times_.bytes(); }
  /// Gives working memory back; the next call allocates it again.
  void trim();

 private:
  /// One residual block and, where the level attends, the transformer after it.
  struct Layer {
    int64_t number = 0;       // of all layers, in the order of loading
    int64_t time_offset = 0;  // of the block's channels in what TimeTable holds
    bool merges = false;      // its level is the one whose tokens can be merged
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
    const float* timesteps;  // known to times_
    PackedContext context;   // of the first layer
    UnetOptions options;
    bool shallow = false;  // options.deep serves
  };

  struct Pass;

  Layer make_layer(Loader& loader, const std::string& prefix, int64_t index, int64_t in, int64_t level,
                   int64_t depth);
  void load_down(Loader& loader);
  void load_middle(Loader& loader);
  void load_up(Loader& loader);
  template <class Visit>
  void each_layer(const Visit& visit) const;
  /// Where each layer's keys and values begin among those of one context of this length; the last element is
  /// their sum.
  std::vector<int64_t> packed_offsets(int64_t length) const;
  void prepare_times(const float* timesteps, int64_t n, const CancelToken* cancel);
  void prepare_context(const float* context, int64_t n, int64_t length, const CancelToken* cancel);
  /// Keys and values of `fresh.size()` contexts [length][context_width], which begin at contexts + image ·
  /// their size.
  void pack(Run& run, const float* contexts, int64_t length,
            const std::vector<ContextTable::Fresh>& fresh) const;
  /// Shifts of all blocks → rows[n][time_channels_]
  void shifts(Run& run, const float* timesteps, int64_t n, std::vector<std::vector<float>>& rows) const;
  Feature forward(Run& run, const Input& input) const;
  /// x is read, or consumed.
  template <class X>
  Feature forward_layer(Run& run, const Pass& pass, const Layer& layer, X&& x) const;
  std::vector<Feature> go_down(Run& run, const Pass& pass, size_t wanted) const;
  Feature go_up(Run& run, const Pass& pass, Feature x, std::vector<Feature> skips) const;

  UnetConfig config_;
  const Kernels& kernels_;
  TimestepEmbedding time_;
  Conv2d conv_in_, conv_out_;
  std::vector<Down> down_;
  std::vector<Layer> middle_;  // none, one without attention, or two, of which the first attends
  std::vector<Up> up_;
  GroupNorm norm_out_;
  int64_t layers_ = 0, up_layers_ = 0, time_channels_ = 0;
  TimeTable times_;
  ContextTable contexts_;
  Workspace workspace_;
};

}  // namespace nd
