// Residual block (He et al. 2016, in the form of Ho et al. 2020) that the UNet and the autoencoders share:
// x + conv2(SiLU(norm2(conv1(SiLU(norm1(x))) + time))).
#pragma once
#include <string>

#include "nn/conv2d.h"
#include "nn/linear.h"
#include "nn/norm.h"

namespace nd {

/// What the timestep adds to the channels of each image: image i's `out` floats begin at values + i·stride.
struct TimeShift {
  const float* values = nullptr;
  int64_t stride = 0;
};

class ResBlock {
 public:
  ResBlock() = default;
  /// time_width: width of the timestep embedding, 0 where there is none. A block that changes the number of
  /// channels takes its shortcut through a 1×1 convolution.
  ResBlock(Loader& loader, const std::string& prefix, int64_t in, int64_t out, int64_t groups, float eps,
           int64_t time_width = 0, const Conv2dOptions& convolution = {});

  /// time: [n][1][1][time_width] after its SiLU → [n][1][1][out], what TimeShift holds.
  Feature project_time(Run& run, const Feature& time) const { return time_.forward(run, time); }

  /// x: [n][h][w][in] → [n][h][w][out]. time is null where time_width is 0. The second form gives x's memory
  /// back as soon as it is not needed.
  Feature forward(Run& run, const Feature& x, const TimeShift* time) const;
  Feature forward(Run& run, Feature&& x, const TimeShift* time) const;

  /// What the block is made of, for those who run it band by band.
  struct Parts {
    const GroupNorm *norm1, *norm2;
    const Conv2d *conv1, *conv2, *shortcut;  // shortcut: null where there is none
  };
  Parts parts() const { return {&norm1_, &norm2_, &conv1_, &conv2_, has_shortcut_ ? &shortcut_ : nullptr}; }

 private:
  Feature first(Run& run, const Feature& x, const TimeShift* time) const;
  Feature second(Run& run, const Feature& hidden, const Feature& residual) const;

  GroupNorm norm1_, norm2_;
  Conv2d conv1_, conv2_, shortcut_;
  Linear time_;
  bool has_shortcut_ = false, narrowing_ = false;
};

}  // namespace nd
