// What kernels count in 32 bits, checked where the host hands it over.
#pragma once
#include <cstdint>
#include <limits>

#include "cuda/device.h"

namespace nd::cuda {

/// A block's last rows may lie beyond those of its tensor, by up to a tile of 256.
constexpr int64_t kMaxCount = std::numeric_limits<int32_t>::max() - 256;

[[noreturn]] void throw_too_large();

/// A number as kernels take it. Error invalid_argument: it has more than 32 bits.
inline int32_t narrow(int64_t x) {
  if (x > kMaxCount || x < -kMaxCount) throw_too_large();
  return static_cast<int32_t>(x);
}

/// Error invalid_argument: CUDA has no grids of this size.
void check_grid(const Grid& grid);

}  // namespace nd::cuda
