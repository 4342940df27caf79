// The two halves of an autoencoder: residual blocks over levels of halving resolution, an optional attention
// where it is lowest (Esser et al. 2021; Rombach et al. 2022).
#pragma once
#include <string>
#include <vector>

#include "nn/attention.h"
#include "nn/conv2d.h"
#include "nn/norm.h"
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
  Feature forward(Run& run, Feature x) const;

 private:
  ResBlock first_, second_;
  GroupNorm norm_;
  Attention attention_;
  bool attends_ = false;
};

class Encoder {
 public:
  Encoder() = default;
  Encoder(Loader& loader, const VaeConfig& config);
  /// image [in_channels][h][w] → out [moment_channels][h/f][w/f], sizes rounded down
  void forward(Run& run, const PlanarSource& image, const Plan& plan, float* out) const;
  /// The layers before the middle block, which a plan speaks of. Valid as long as this object stays in place.
  Chain chain() const;

 private:
  struct Level {
    std::vector<ResBlock> blocks;
    std::vector<Conv2d> downsample;  // none or one
  };
  Conv2d conv_in_, conv_out_;
  std::vector<Level> levels_;
  MiddleBlock middle_;
  GroupNorm norm_out_;
  std::vector<Conv2d> quant_;  // none or one
};

class Decoder {
 public:
  Decoder() = default;
  Decoder(Loader& loader, const VaeConfig& config);
  /// latents [decoded_channels][h][w] → out [out_channels][f·h][f·w]
  void forward(Run& run, const PlanarSource& latents, const Plan& plan, float* out) const;
  /// The layers behind the middle block, which a plan speaks of. Valid as long as this object stays in place.
  Chain chain() const;

 private:
  struct Level {
    std::vector<ResBlock> blocks;
    std::vector<Conv2d> upsample;  // none or one
  };
  Conv2d conv_in_, conv_out_;
  std::vector<Level> levels_;  // lowest resolution first
  MiddleBlock middle_;
  GroupNorm norm_out_;
  std::vector<Conv2d> post_quant_;  // none or one
};

}  // namespace nd
