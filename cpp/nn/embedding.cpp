#include "nn/embedding.h"

#include <algorithm>

namespace nd {

Embedding::Embedding(Loader& loader, const std::string& name, int64_t count, int64_t width)
    : count_(count), width_(width) {
  const StoredTensor& tensor = loader.weights.require(name, {count, width});
  table_.resize(static_cast<size_t>(count * width));
  // In pieces, as CLIP's table is 150 MB: cancellation must not wait for it.
  constexpr int64_t kRowsPerTask = 256;
  loader.pool.parallel_for((count + kRowsPerTask - 1) / kRowsPerTask, loader.cancel, [&](int64_t task, int) {
    const int64_t first = task * kRowsPerTask, rows = std::min(kRowsPerTask, count - first);
    tensor.read(loader.kernels, first * width, rows * width, table_.data() + first * width);
  });
  loader.packed_bytes += table_.size() * sizeof(float);
}

}  // namespace nd
