#include "nn/embedding.h"

#include <algorithm>
#include <cstring>

namespace nd {

Embedding::Embedding(Loader& loader, const std::string& name, int64_t count, int64_t width)
    : count_(count), width_(width) {
  table_ = loader.weights.require(name, {count, width});
  if (loader.streams()) return;
  // In pieces, as CLIP's table is 76 MB: cancellation must not wait for it.
  constexpr uint64_t kPiece = WeightFile::kBuffer;
  const std::shared_ptr<uint8_t> held(new uint8_t[table_.bytes], std::default_delete<uint8_t[]>());
  loader.pool.parallel_for(static_cast<int64_t>((table_.bytes + kPiece - 1) / kPiece), loader.cancel,
                           [&](int64_t task, int) {
                             const uint64_t first = static_cast<uint64_t>(task) * kPiece,
                                            bytes = std::min(kPiece, table_.bytes - first);
                             const uint64_t at = table_.offset + first;
                             std::memcpy(held.get() + first, table_.file->read(at, bytes, at + bytes), bytes);
                           });
  loader.packed_bytes += table_.bytes;
  table_.data = held;
  table_.file = nullptr;
}

}  // namespace nd
