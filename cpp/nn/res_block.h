// Residual block (He et al. 2016, in the form of Ho et al. 2020) that the UNet and the autoencoders share:
// x + conv2(SiLU(norm2(conv1(SiLU(norm1(x))) + time))).
#pragma once
#include <string>

#include "nn/conv2d.h"
#include "nn/linear.h"
#include "nn/norm.h"

namespace nd {

class ResBlock {
 public:
  ResBlock() = default;
  /// time_width: width of the timestep embedding, 0 where there is none. A block that changes the number of
  /// channels takes its shortcut through a 1×1 convolution.
  ResBlock(Loader& loader, const std::string& prefix, int64_t in, int64_t out, int64_t groups, float eps,
           int64_t time_width = 0);

  /// x: [n][h][w][in] → [n][h][w][out]. time: [n][1][1][time_width] after its SiLU, null where time_width is
  /// 0. The second form gives x's memory back as soon as it is not needed.
  Feature forward(Run& run, const Feature& x, const Feature* time) const;
  Feature forward(Run& run, Feature&& x, const Feature* time) const;

 private:
  Feature first(Run& run, const Feature& x, const Feature* time) const;
  Feature second(Run& run, const Feature& hidden, const Feature& residual) const;

  GroupNorm norm1_, norm2_;
  Conv2d conv1_, conv2_, shortcut_;
  Linear time_;
  bool has_shortcut_ = false, narrowing_ = false;
};

}  // namespace nd
