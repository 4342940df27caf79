#include "nn/embedding.h"

namespace nd {

Embedding::Embedding(Loader& loader, const std::string& name, int64_t count, int64_t width)
    : count_(count), width_(width) {
  const StoredTensor& tensor = loader.weights.require(name, {count, width});
  table_.resize(static_cast<size_t>(count * width));
  tensor.read(loader.kernels, 0, count * width, table_.data());
  loader.packed_bytes += table_.size() * sizeof(float);
}

}  // namespace nd
