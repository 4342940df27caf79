// Residual block (He et al. 2016, in the form of Ho et al. 2020) that the UNet and the autoencoders share:
// x + conv2(SiLU(norm2(conv1(SiLU(norm1(x))) + time))).
#pragma once
#include <memory>
#include <string>

#include "nn/layers.h"
#include "nn/loader.h"

namespace nd {

/// What the timestep adds to the channels of each image: `out` channels of `values` [n][1][1][…] from
/// `first_channel` on.
struct TimeShift {
  const Tensor* values = nullptr;
  int64_t first_channel = 0;
};

struct ResBlockOptions {
  int64_t in = 0, out = 0;
  int64_t norm_groups = 32;
  float norm_eps = 1e-5f;
  int64_t time_width = 0;  // of the timestep embedding; 0: there is none
  Role convolutions = Role::hidden;
  /// Input, output and what lies between the convolutions are, see Conv2dOptions. Not with a timestep.
  bool wide = false;
};

class ResBlock {
 public:
  ResBlock() = default;
  /// A block that changes the number of channels has a 1×1 convolution as its shortcut.
  ResBlock(Loader& loader, const std::string& prefix, const ResBlockOptions& options);

  /// time: [n][1][1][time_width] after its SiLU → [n][1][1][out], which TimeShift holds.
  Tensor project_time(ForwardContext& ctx, const Tensor& time) const { return time_->forward(ctx, time); }

  /// x: [n][h][w][in] → [n][h][w][out]. time is null where time_width is 0. The second and third forms
  /// release x's memory as soon as it is not needed.
  Tensor forward(ForwardContext& ctx, const Tensor& x, const TimeShift* time) const;
  Tensor forward(ForwardContext& ctx, Tensor&& x, const TimeShift* time) const;
  Tensor forward(ForwardContext& ctx, JoinedTensor&& x, const TimeShift* time) const;

  /// The block's layers, for running it band by band.
  struct Parts {
    const GroupNorm *norm1, *norm2;
    const Conv2d *conv1, *conv2, *shortcut;  // shortcut: null where there is none
  };
  Parts parts() const { return {norm1_.get(), norm2_.get(), conv1_.get(), conv2_.get(), shortcut_.get()}; }

 private:
  Tensor first(ForwardContext& ctx, const Tensor& x, const TimeShift* time) const;
  Tensor second(ForwardContext& ctx, const Tensor& hidden, const Tensor& residual) const;

  std::shared_ptr<const GroupNorm> norm1_, norm2_;
  std::shared_ptr<const Conv2d> conv1_, conv2_, shortcut_;
  std::shared_ptr<const Linear> time_;
};

}  // namespace nd
