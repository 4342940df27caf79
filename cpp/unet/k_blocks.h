// The blocks of k-diffusion's UNets (Crowson 2022), as diffusers has them: residual blocks and attention
// whose normalizations are scaled and shifted by the timestep (Dhariwal & Nichol 2021, section 3.1).
#pragma once
#include <memory>
#include <string>

#include "nn/layers.h"
#include "nn/loader.h"

namespace nd {

/// The scales and shifts of all normalizations of a model for each image of a batch: [n][1][1][channels].
/// Blocks take their places in the order of loading.
struct ModulationPlaces {
  int64_t channels = 0;
  int64_t time_width = 0;
};

/// Group normalization without weights of its own: norm(x) · (1 + scale) + shift.
class AdaptiveGroupNorm {
 public:
  AdaptiveGroupNorm() = default;
  AdaptiveGroupNorm(Loader& loader, const std::string& prefix, int64_t channels, int64_t groups, float eps,
                    ModulationPlaces& places);
  /// time: [n][1][1][time_width] → scales and shifts, [n][1][1][2 · channels].
  Tensor project(ForwardContext& ctx, const Tensor& time) const { return projection_->forward(ctx, time); }
  /// Where they begin among those of all.
  int64_t first_channel() const { return first_channel_; }
  Tensor forward(ForwardContext& ctx, const Tensor& x, const Tensor& modulations,
                 Activation activation) const {
    return norm_->modulated(ctx, x, modulations, first_channel_, activation);
  }
  Tensor forward(ForwardContext& ctx, const JoinedTensor& x, const Tensor& modulations,
                 Activation activation) const {
    return norm_->modulated_joined(ctx, x, modulations, first_channel_, activation);
  }

 private:
  int64_t first_channel_ = 0;
  std::shared_ptr<const GroupNorm> norm_;
  std::shared_ptr<const Linear> projection_;
};

struct KResBlockOptions {
  int64_t in = 0, middle = 0, out = 0;
  int64_t in_groups = 1, middle_groups = 1;
  float norm_eps = 1e-5f;
  Role convolutions = Role::hidden;
};

/// shortcut(x) + conv2(GELU(norm2(conv1(GELU(norm1(x)))))).
class KResBlock {
 public:
  KResBlock(Loader& loader, const std::string& prefix, const KResBlockOptions& options,
            ModulationPlaces& places);
  /// x: [n][h][w][in] → [n][h][w][out]
  Tensor forward(ForwardContext& ctx, Tensor x, const Tensor& modulations) const;
  Tensor forward(ForwardContext& ctx, JoinedTensor x, const Tensor& modulations) const;
  const AdaptiveGroupNorm& norm1() const { return norm1_; }
  const AdaptiveGroupNorm& norm2() const { return norm2_; }

 private:
  AdaptiveGroupNorm norm1_, norm2_;
  std::shared_ptr<const Conv2d> conv1_, conv2_, shortcut_;
};

struct KAttentionOptions {
  int64_t channels = 0;
  int64_t head_width = 64;
  int64_t context_width = 768;
  int64_t groups = 1;
  bool attends_to_image = false;  // before it attends to the context
};

/// Attention to the image, in some blocks, and to the context, which is normalized. No feed-forward network.
class KAttention {
 public:
  KAttention(Loader& loader, const std::string& prefix, const KAttentionOptions& options,
             ModulationPlaces& places);
  /// x: [n][h][w][channels] → as x. The context's keys and values as pack() left them.
  Tensor forward(ForwardContext& ctx, Tensor x, const Tensor& modulations,
                 const PackedContext& context) const;
  /// Bytes of the keys and values of one image's context.
  size_t packed_bytes(int64_t length) const { return cross_->packed_bytes(length); }
  /// Those of context [n][1][length][context_width]; image i's go to images[i] + offset.
  void pack(ForwardContext& ctx, const Tensor& context, const Address* images, size_t offset) const;

  bool attends_to_image() const { return self_ != nullptr; }
  const AdaptiveGroupNorm& norm1() const { return norm1_; }
  const AdaptiveGroupNorm& norm2() const { return norm2_; }

 private:
  AdaptiveGroupNorm norm1_, norm2_;
  std::shared_ptr<const Attention> self_, cross_;
  std::shared_ptr<const LayerNorm> context_norm_;
};

}  // namespace nd
