// 3×3 convolution of stride 1 by Winograd's minimal filtering F(2×2, 3×3) (Lavin & Gray 2016): 2.25 times
// fewer multiplications than direct, exact in real arithmetic, and of about direct convolution's error in
// float32 and bfloat16.
#pragma once
#include <string>
#include <vector>

#include "nn/linear.h"
#include "nn/norm.h"

namespace nd {

class Winograd {
 public:
  /// What a layer of in × out channels, its weights stored as `type`, is best computed in this way, if at
  /// all, and only where sixteen values for each kernel instead of nine cost little memory. int8 becomes
  /// bfloat16, no slower than direct int8 and more accurate, unless `int8` says that its error (measured: 2.4
  /// times direct int8's) does not show.
  static bool suits(const Loader& loader, TensorType type, Compute& compute, int64_t in, int64_t out,
                    bool int8);

  /// read_kernel(o, [3][3][in])
  Winograd(Loader& loader, Compute compute, int64_t in, int64_t out, const FillRow& read_kernel);

  /// x: [n][h][w][in] → [n][h][w][out], zero-padded by one pixel; factors as GroupNorm::affine or empty.
  /// `out` is made if it is not there yet; it may be the residual.
  void forward(Run& run, const Feature& x, const Feature& factors, const float* bias, const Fuse& fuse,
               Feature& out) const;

 private:
  struct Tiles;
  void run_block(Run& run, const Panels& weights, const float* band, const Tiles& tiles, int64_t first,
                 int64_t count, const float* bias, const Fuse& fuse, const Feature& out) const;

  PackedMatrix weights_;  // sixteen planes
};

}  // namespace nd
