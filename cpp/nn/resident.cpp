#include "nn/resident.h"

#include <atomic>

#include "core/error.h"
#include "nn/backend.h"

namespace nd {
namespace {

std::atomic<uint64_t> last_id{0};

}  // namespace

ResidentTensors::ResidentTensors(int64_t images, int64_t elements, int64_t further)
    : id_(++last_id), images_(images), elements_(elements), further_(further) {}

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
