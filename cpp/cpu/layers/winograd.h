// 3×3 convolution of stride 1 by Winograd's minimal filtering F(2×2, 3×3) (Lavin & Gray 2016). It takes 2.25
// times fewer multiplications than direct convolution, is exact in real arithmetic, and has about the same
// error in float32 and bfloat16.
#pragma once
#include <vector>

#include "cpu/layers/linear.h"

namespace nd::cpu {

class Winograd {
 public:
  /// read_kernel(o, out) writes the kernel of output channel o, [3][3][in].
  Winograd(const Device& device, Loader& loader, Compute compute, int64_t in, int64_t out,
           const FillRow& read_kernel);

  /// x: [n][h][w][in] → [n][h][w][out], zero-padded by one pixel; factors as from GroupNorm::affine, or
  /// empty. `out` is allocated if it is empty; it may be the residual.
  void forward(Context& ctx, const Tensor& x, const Tensor& factors, const float* bias,
               const Epilogue& epilogue, Tensor& out) const;

 private:
  struct BlockScratch;
  struct Tiles;
  /// Tiles of a block.
  int64_t block_tiles() const;
  void run_block(Context& ctx, const Panels& weights, const float* band, const Tiles& tiles, int64_t first,
                 int64_t count, const float* bias, const Epilogue& epilogue, const Tensor& out) const;

  PackedMatrix weights_;  // sixteen planes
};

}  // namespace nd::cpu
