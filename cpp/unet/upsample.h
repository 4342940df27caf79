// Nearest-neighbour upsampling and the 3×3 convolution after it, to twice the size or one less.
#pragma once
#include <string>

#include "nn/conv2d.h"

namespace nd {

class Upsample {
 public:
  Upsample() = default;
  Upsample(Loader& loader, const std::string& name, int64_t channels);

  /// x: [n][h][w][c] → [n][height][width][c]; height is 2h or 2h−1 (the downsampling had an odd size), width
  /// likewise.
  Feature forward(Run& run, const Feature& x, int64_t height, int64_t width) const;

 private:
  Feature cut(Run& run, const Feature& x, const Feature& doubled, int64_t height, int64_t width) const;

  Conv2d conv_;
};

}  // namespace nd
