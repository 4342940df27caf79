// The encoder and the decoder of an autoencoder: residual blocks at several resolutions, with optional
// attention at the lowest (Esser et al. 2021; Rombach et al. 2022).
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "nn/loader.h"
#include "nn/res_block.h"
#include "vae/bands.h"
#include "vae/chain.h"
#include "vae/config.h"

namespace nd {

/// Residual block, attention of one head over all pixels (where the model has it), residual block.
class MiddleBlock {
 public:
  MiddleBlock() = default;
  MiddleBlock(Loader& loader, const std::string& prefix, const VaeConfig& config);
  /// [n][h][w][c] → as x
  Tensor forward(ForwardContext& ctx, Tensor x) const;

 private:
  ResBlock first_, second_;
  std::shared_ptr<const GroupNorm> norm_;
  std::shared_ptr<const Attention> attention_;  // or null
};

class Encoder {
 public:
  Encoder() = default;
  Encoder(Loader& loader, const VaeConfig& config);
  /// image [in_channels][h][w] → out [moment_channels][h/f][w/f], sizes rounded down
  void forward(ForwardContext& ctx, const PlanarSource& image, const Plan& plan, float* out) const;
  /// The layers before the middle block, which a plan refers to. Valid while this object is not moved.
  Chain chain() const;

 private:
  struct Level {
    std::vector<ResBlock> blocks;
    std::shared_ptr<const Conv2d> downsample;  // or null
  };
  std::shared_ptr<const Conv2d> conv_in_, conv_out_;
  std::vector<Level> levels_;
  MiddleBlock middle_;
  std::shared_ptr<const GroupNorm> norm_out_;
  std::shared_ptr<const Conv2d> quant_;  // or null
};

class Decoder {
 public:
  Decoder() = default;
  Decoder(Loader& loader, const VaeConfig& config);
  /// latents [decoded_channels][h][w] → out [out_channels][f·h][f·w]
  void forward(ForwardContext& ctx, const PlanarSource& latents, const Plan& plan, float* out) const;
  /// The layers after the middle block, which a plan refers to. Valid while this object is not moved.
  Chain chain() const;

 private:
  struct Level {
    std::vector<ResBlock> blocks;
    std::shared_ptr<const Conv2d> upsample;  // or null
  };
  std::shared_ptr<const Conv2d> conv_in_, conv_out_;
  std::vector<Level> levels_;  // lowest resolution first
  MiddleBlock middle_;
  std::shared_ptr<const GroupNorm> norm_out_;
  std::shared_ptr<const Conv2d> post_quant_;  // or null
};

}  // namespace nd
