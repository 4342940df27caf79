// ControlNet (Zhang et al. 2023, "Adding Conditional Control to Text-to-Image Diffusion Models"): a copy of
// the UNet's encoder and middle block that also sees a picture. What it adds to the UNet's skip connections
// stays in the device's memory. ControlNetModel of diffusers, and ControlNetUnionModel, which sees several
// pictures of different kinds at once.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "control/control_fusion.h"
#include "nn/loader.h"
#include "nn/workspace.h"
#include "unet/encoder.h"
#include "unet/kept_tensors.h"

namespace nd {

struct ControlNetConfig {
  UnetConfig unet;  // that it is a copy of; its decoder does not count
  int64_t image_channels = 3;
  /// Channels of the layers that embed the picture, from full resolution down to that of the latents.
  std::vector<int64_t> image_widths{16, 32, 96, 256};
  /// A union ControlNet, whose unet.control_types is not 0: layers of the transformer that fuses its
  /// pictures.
  int64_t fusion_layers = 0;

  /// Pixels of the picture for each pixel of the latents, along one side.
  int64_t factor() const { return int64_t{1} << (image_widths.size() - 1); }
  bool is_union() const { return unet.control_types > 0; }
  /// Error invalid_argument names the invalid field.
  void check() const;
};

/// Pictures [n][image_channels][f·h][f·w] for latents of h × w.
struct ControlPictures {
  const float* data = nullptr;
  int64_t n = 1, h = 0, w = 0;
  // A union ControlNet: what they show, and their factor where they guide together with others.
  int64_t type = 0;
  float scale = 1;
};

/// What embed() left, and its factor where others guide, too.
struct EmbeddedPictures {
  const KeptTensors* kept = nullptr;
  float scale = 1;
};

/// What a ControlNet is asked for.
struct ControlInput {
  UnetInput unet;  // the rows that it predicts for
  /// Row i has picture i modulo their number. Only a union ControlNet takes more than one.
  std::vector<EmbeddedPictures> pictures;
  std::vector<float> scales;  // a factor of each residual
  /// Where the residuals of all `total` rows of the UNet's batch are added up; these rows begin at `first`.
  KeptTensors* residuals = nullptr;
  int64_t first = 0, total = 0;
  bool replaces = true;  // whether what was kept is forgotten: other rows become 0
};

/// Bytes of working memory that a call takes, and of what a run keeps: the embedded pictures, and the
/// residuals of all rows.
struct ControlNetMemory {
  size_t working = 0, pictures = 0, residuals = 0;
};

class ControlNet {
 public:
  /// Tensor names are diffusers'. Errors: invalid_argument (config), model_shape.
  ControlNet(const ControlNetConfig& config, Loader& loader);

  const ControlNetConfig& config() const { return config_; }
  /// Number of residuals: one for each skip connection, and the middle block's.
  int64_t residuals() const { return static_cast<int64_t>(zero_.size()); }

  /// Throws Cancelled. Error invalid_argument: a type that this model does not have.
  void embed(const ControlPictures& pictures, KeptTensors& to, const CancelToken* cancel);
  /// Throws Cancelled. Error invalid_argument: a condition that this model lacks or needs, pictures of
  /// another size, no picture or too many.
  void predict(const ControlInput& input, const CancelToken* cancel);

  /// Error invalid_argument as Unet::check().
  void check(const Conditioning& conditioning, int64_t n) const { encoder_.time().check(conditioning, n); }
  void prepare(const Conditioning& conditioning, int64_t n, const CancelToken* cancel);

  /// Of a run of n rows with so many pictures, without allocating it.
  ControlNetMemory memory(int64_t n, int64_t h, int64_t w, int64_t length, int64_t pictures) const;

  void trim();

 private:
  /// What is added to the first skip connection; `bias` is empty unless this is a union ControlNet.
  struct Hint {
    Tensor pictures, bias;
  };

  void expect(const ControlPictures& pictures, KeptTensors& to) const;
  Tensor embed(ForwardContext& ctx, const float* picture, int64_t h, int64_t w) const;
  void embed(ForwardContext& ctx, const ControlPictures& pictures, int64_t index, KeptTensors& to) const;
  Hint hint_of(ForwardContext& ctx, const ControlInput& input) const;
  /// staged_shifts: elements [n][shift channels] on the host, or null for those of the cache.
  void forward(ForwardContext& ctx, const ControlInput& input, const TimestepKeys& keys,
               const PackedContext& context, const uint8_t* staged_shifts) const;
  void keep(ForwardContext& ctx, const ControlInput& input, size_t index, const Tensor& residual) const;

  ControlNetConfig config_;
  Backend& backend_;
  UnetEncoder encoder_;
  std::vector<std::shared_ptr<const Conv2d>> picture_;  // the layers that embed the picture
  std::unique_ptr<ControlFusion> fusion_;               // of a union ControlNet, or null
  /// 1×1 convolutions, which training began with as zeros: one for each residual.
  std::vector<std::shared_ptr<const Conv2d>> zero_;
  Workspace workspace_;
  StagedNumbers staged_;
};

}  // namespace nd
