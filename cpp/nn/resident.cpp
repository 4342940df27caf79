#include "nn/resident.h"

#include "core/error.h"
#include "nn/backend.h"

namespace nd {

std::shared_ptr<ResidentTensors> Backend::resident(int64_t, int64_t, int64_t) {
  return nullptr;
}

Tensor Backend::from_resident(ForwardContext&, ResidentTensors&, const ImageShape&, int64_t) {
  throw Error(ErrorCode::invalid_argument, "Expected resident tensors of a GPU");
}

void Backend::to_resident(ForwardContext&, const Tensor&, ResidentTensors&) {
  throw Error(ErrorCode::invalid_argument, "Expected resident tensors of a GPU");
}

}  // namespace nd
