// What a union ControlNet adds to its embedded pictures: a vector for each picture, which a small transformer
// makes of its mean and of what it shows. Part of ControlNetUnionModel of diffusers.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "nn/loader.h"

namespace nd {

/// diffusers lets the tokens attend to those at the same place of the other images of a batch, as the
/// published weights were trained: its MultiheadAttention takes the first dimension for the sequence. Those
/// are equal wherever all images have the same pictures, and then attention is its projection of values.
/// Here, it is that for all images, so that none depends on the others.
class ControlFusion {
 public:
  /// `task_embedding` [types][channels], `transformer_layes.0.ln_1`, `…attn.v_proj`, `…attn.out_proj`,
  /// `…ln_2`, `…mlp.c_fc`, `…mlp.c_proj`, …, `spatial_ch_projs`. Error model_shape.
  ControlFusion(Loader& loader, int64_t channels, int64_t types, int64_t layers);

  /// Of x [1][h][w][channels], of all pixels.
  std::vector<float> mean(ForwardContext& ctx, const Tensor& x) const;
  /// Bytes of host memory that mean() takes.
  static size_t host_bytes(int64_t h, int64_t w, int64_t channels);
  /// For a picture of this mean and type that guides with `scale` → [1][1][1][channels]
  Tensor forward(ForwardContext& ctx, const std::vector<float>& mean, int64_t type, float scale) const;

 private:
  struct Layer {
    std::shared_ptr<const LayerNorm> norm1, norm2;
    std::shared_ptr<const Linear> value, out, in, projection;
  };

  int64_t channels_;
  std::shared_ptr<const Embedding> types_;
  std::vector<Layer> layers_;
  std::shared_ptr<const Linear> out_;
};

}  // namespace nd
