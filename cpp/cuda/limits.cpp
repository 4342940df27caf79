#include "cuda/limits.h"

#include "core/error.h"

namespace nd::cuda {

void throw_too_large() {
  throw Error(ErrorCode::invalid_argument,
              "An image of this size has too many activations for CUDA devices. Use a smaller one, or less "
              "memory.");
}

void check_grid(const Grid& grid) {
  // Of all compute capabilities.
  constexpr int64_t kMaxX = std::numeric_limits<int32_t>::max(), kMaxYZ = 65535;
  if (grid.x > kMaxX || grid.y > kMaxYZ || grid.z > kMaxYZ) throw_too_large();
}

}  // namespace nd::cuda
