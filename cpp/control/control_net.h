// ControlNet (Zhang et al. 2023, "Adding Conditional Control to Text-to-Image Diffusion Models"): a copy of
// the UNet's encoder and middle block that also sees a picture. What it adds to the UNet's skip connections
// stays in the device's memory. ControlNetModel of diffusers.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

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

  /// Pixels of the picture for each pixel of the latents, along one side.
  int64_t factor() const { return int64_t{1} << (image_widths.size() - 1); }
  /// Error invalid_argument names the invalid field.
  void check() const;
};

/// What a ControlNet is asked for.
struct ControlInput {
  UnetInput unet;                        // the rows that it predicts for
  const KeptTensors* picture = nullptr;  // as embed() left it
  std::vector<float> scales;             // a factor of each residual
  /// Where the residuals of all `total` rows of the UNet's batch are added up; these rows begin at `first`.
  KeptTensors* residuals = nullptr;
  int64_t first = 0, total = 0;
  bool replaces = true;  // whether what was kept is forgotten: others rows become 0
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

  /// Embeds pictures [n][image_channels][f·h][f·w] for latents of h × w. Throws Cancelled.
  void embed(const float* pictures, int64_t n, int64_t h, int64_t w, KeptTensors& to,
             const CancelToken* cancel);
  /// Throws Cancelled. Row i has picture i modulo their number. Error invalid_argument: a condition that this
  /// model lacks or needs, pictures of another size.
  void predict(const ControlInput& input, const CancelToken* cancel);

  /// Error invalid_argument as Unet::check().
  void check(const Conditioning& conditioning, int64_t n) const { encoder_.time().check(conditioning, n); }
  void prepare(const Conditioning& conditioning, int64_t n, const CancelToken* cancel);

  /// Of a run of n rows with so many pictures, without allocating it.
  ControlNetMemory memory(int64_t n, int64_t h, int64_t w, int64_t length, int64_t pictures) const;

  void trim();

 private:
  Tensor embed(ForwardContext& ctx, const float* pictures, int64_t n, int64_t h, int64_t w) const;
  Tensor hint_of(ForwardContext& ctx, const ControlInput& input) const;
  void forward(ForwardContext& ctx, const ControlInput& input, const TimestepKeys& keys,
               const PackedContext& context) const;
  void keep(ForwardContext& ctx, const ControlInput& input, size_t index, const Tensor& residual) const;

  ControlNetConfig config_;
  Backend& backend_;
  UnetEncoder encoder_;
  std::vector<std::shared_ptr<const Conv2d>> picture_;  // the layers that embed the picture
  /// 1×1 convolutions, which training began with as zeros: one for each residual.
  std::vector<std::shared_ptr<const Conv2d>> zero_;
  Workspace workspace_;
};

}  // namespace nd
