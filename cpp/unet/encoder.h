// What a UNet and a ControlNet have in common: what their conditions become, the encoder levels and the
// middle block. The decoder's layers are made here, too, so that all share one set of caches.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "nn/loader.h"
#include "nn/res_block.h"
#include "nn/workspace.h"
#include "unet/caches.h"
#include "unet/conditioning.h"
#include "unet/config.h"
#include "unet/image_prompts.h"
#include "unet/repeated.h"
#include "unet/timestep.h"
#include "unet/transformer.h"

namespace nd {

/// One residual block and, at levels with attention, the transformer after it.
struct UnetLayer {
  int64_t number = 0;          // of all layers, in the order of loading
  int64_t shift_offset = 0;    // of the block's channels among the shifts of a timestep
  size_t first_attention = 0;  // of its cross-attentions, among those of all layers
  bool merges = false;         // its tokens can be merged
  ResBlock block;
  std::unique_ptr<SpatialTransformer> transformer;  // or null
};

/// What all layers of a forward need to know.
struct UnetPass {
  double token_merging = 0;
  PackedContext context{};  // of the first layer
  std::vector<size_t> context_offsets{};
  const Tensor* shifts = nullptr;                      // [n][1][1][shift_channels]
  const std::vector<ImagePrompt>* images = nullptr;    // null: none
  const std::vector<ChangedInputs>* inputs = nullptr;  // null: none
};

class UnetEncoder {
 public:
  /// Loads what embeds the conditions, the first convolution, the encoder levels and the middle block.
  /// Errors: invalid_argument (config), model_shape.
  UnetEncoder(const UnetConfig& config, Loader& loader);

  const UnetConfig& config() const { return config_; }
  const TimestepEmbedding& time() const { return time_; }
  int64_t shift_channels() const { return shift_channels_; }
  /// Adds a layer, of the decoder for example. It stays at its address.
  const UnetLayer& add_layer(Loader& loader, const std::string& prefix, int64_t index, int64_t in,
                             int64_t level, int64_t depth, bool only_cross_attention);
  bool has_middle() const { return !middle_.empty(); }

  // --- caches ---

  /// Computes the shifts of keys that are not cached. Throws Cancelled.
  void cache_shifts(Workspace& workspace, const TimestepKeys& keys, const CancelToken* cancel);
  /// Computes keys and values of contexts that are not cached. Throws Cancelled.
  PackedContext cache_context(Workspace& workspace, const Conditioning& conditioning, int64_t n,
                              const CancelToken* cancel);
  size_t held_bytes() const { return contexts_.bytes() + timesteps_.bytes(); }
  void clear_caches();
  /// Bytes that the caches of a call keep, and working memory that filling them takes.
  size_t cache_bytes(int64_t n, int64_t length) const;
  size_t caching_bytes(int64_t n, int64_t length) const;

  // --- parts of a forward ---

  /// Shifts of all blocks as a tensor that the pass refers to. `elements`: [n][shift_channels] on the host,
  /// or null for those of the cache.
  Tensor shifts(ForwardContext& ctx, int64_t n, const TimestepKeys& keys, const uint8_t* elements) const;
  /// Copies the latents and shifts of a forward, which are staged at addresses that stay, with room for
  /// out_floats of output. Returns the input that refers to them.
  UnetInput stage(const UnetInput& input, const TimestepKeys& keys, int64_t out_floats,
                  StagedNumbers& staged) const;
  /// What encode() starts from. Uploads that follow it are not recorded, see Backend::record().
  Tensor latents(ForwardContext& ctx, const UnetInput& input) const;
  /// `shifts` outlive the pass.
  UnetPass pass(const PackedContext& context, const Tensor& shifts, double token_merging) const;
  /// x is read, or consumed.
  template <class X>
  Tensor forward_layer(ForwardContext& ctx, const UnetPass& pass, const UnetLayer& layer, X&& x) const {
    const TimeShift shift{pass.shifts, layer.shift_offset};
    Tensor out = layer.block.forward(ctx, std::forward<X>(x), &shift);
    return attend(ctx, pass, layer, std::move(out));
  }
  /// The first `wanted` skip connections, in the encoder's order. `latents` as latents() gives them; `hint`
  /// [n][h][w][channels] and `hint_bias` [n][1][1][channels] are added to the first; null: none.
  std::vector<Tensor> encode(ForwardContext& ctx, const UnetPass& pass, const UnetInput& input,
                             Tensor latents, size_t wanted, const Tensor* hint = nullptr,
                             const Tensor* hint_bias = nullptr) const;
  /// Adds feature `place` of T2I-Adapters, where they have one: that of a level, or after those of all levels
  /// that of the middle block. Error invalid_argument: it has another shape than x.
  void add_features(ForwardContext& ctx, const UnetInput& input, size_t place, const Tensor& x) const;
  /// The middle block's output, from the last skip connection; empty where there is none.
  Tensor middle(ForwardContext& ctx, const UnetPass& pass, const Tensor& last) const;

 private:
  struct Level {
    std::vector<const UnetLayer*> layers;
    std::shared_ptr<const Conv2d> downsample;  // or null
    bool attends() const;
  };

  void load_levels(Loader& loader);
  void load_middle(Loader& loader);
  /// Where each layer's keys and values begin among those of one context of this length; the last element is
  /// their sum.
  std::vector<size_t> packed_offsets(int64_t length) const;
  /// Keys and values of `fresh.size()` contexts [length][context_width], which begin at contexts + image ·
  /// their size.
  void pack(ForwardContext& ctx, const float* contexts, int64_t length,
            const std::vector<ContextCache::Fresh>& fresh) const;
  /// Shifts of all blocks for each key → rows[n][shift_channels_], as elements
  void compute_shifts(ForwardContext& ctx, const TimestepKeys& keys,
                      std::vector<std::vector<uint8_t>>& rows) const;
  size_t shift_bytes() const { return static_cast<size_t>(shift_channels_) * backend_.element_bytes(); }
  Tensor attend(ForwardContext& ctx, const UnetPass& pass, const UnetLayer& layer, Tensor x) const;

  UnetConfig config_;
  Backend& backend_;
  TimestepEmbedding time_;
  std::shared_ptr<const Conv2d> conv_in_;
  std::vector<std::unique_ptr<UnetLayer>> layers_;
  std::vector<Level> levels_;
  std::vector<const UnetLayer*> middle_;  // none, one without attention, or two, of which the first has it
  int64_t shift_channels_ = 0;
  size_t attentions_ = 0;  // cross-attentions of all layers
  TimestepCache timesteps_;
  ContextCache contexts_;
};

}  // namespace nd
