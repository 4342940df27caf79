// One layer of a CLIP model (Radford et al. 2021), text or image: self-attention and a feed-forward network,
// each after a layer norm and added to what came in.
#pragma once
#include <memory>
#include <string>
#include <vector>

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

/// The layers of an encoder, from its configuration. causal: of texts.
template <class Config>
std::vector<ClipLayer> load_clip_layers(Loader& loader, const Config& config, bool causal) {
  const ClipLayerOptions options{config.width,      config.heads,          config.intermediate,
                                 config.activation, config.layer_norm_eps, causal};
  std::vector<ClipLayer> layers;
  for (int64_t i = 0; i < config.layers; ++i)
    layers.emplace_back(loader, "encoder.layers." + std::to_string(i) + ".", options);
  return layers;
}

}  // namespace nd
