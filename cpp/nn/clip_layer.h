// One layer of a CLIP model (Radford et al. 2021), text or image: self-attention and a feed-forward network,
// each after a layer norm and added to what came in.
#pragma once
#include <memory>
#include <string>

#include "nn/loader.h"

namespace nd {

struct ClipLayerOptions {
  int64_t width = 0;
  int64_t heads = 1;
  int64_t intermediate = 0;
  Activation activation = Activation::quick_gelu;  // or gelu
  float layer_norm_eps = 1e-5f;
  bool causal = false;  // texts
};

class ClipLayer {
 public:
  /// Tensor names as in transformers' CLIPEncoderLayer, below `prefix`.
  ClipLayer(Loader& loader, const std::string& prefix, const ClipLayerOptions& options);
  /// x: [n][1][length][width] → as x.
  Tensor forward(ForwardContext& ctx, Tensor x) const;

 private:
  std::shared_ptr<const LayerNorm> norm1_, norm2_;
  std::shared_ptr<const Attention> attention_;
  std::shared_ptr<const Linear> fc1_, fc2_;
  Activation activation_;
};

}  // namespace nd
