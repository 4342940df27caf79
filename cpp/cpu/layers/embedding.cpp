#include "cpu/layers/embedding.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

namespace nd::cpu {

Embedding::Embedding(const Device& device, Loader& loader, StoredTensor table)
    : table_(std::move(table)), width_(table_.shape[1]) {
  if (loader.streams()) return;
  if (table_.rows) {
    hold_adapted(device, loader);
    return;
  }
  if (loader.plans()) {
    loader.add_packed_bytes(table_.bytes);
    return;
  }
  // In pieces, so that cancellation does not wait for all of CLIP's table, 76 MB.
  constexpr uint64_t kPiece = WeightFile::kBuffer;
  const std::shared_ptr<uint8_t> held(new uint8_t[table_.bytes], std::default_delete<uint8_t[]>());
  device.pool.parallel_for(static_cast<int64_t>((table_.bytes + kPiece - 1) / kPiece), loader.cancel(),
                           [&](int64_t task, int) {
                             const uint64_t first = static_cast<uint64_t>(task) * kPiece,
                                            bytes = std::min(kPiece, table_.bytes - first);
                             const uint64_t at = table_.offset + first;
                             std::memcpy(held.get() + first, table_.file->read(at, bytes, at + bytes), bytes);
                           });
  loader.add_packed_bytes(table_.bytes);
  table_.data = held;
  table_.file = nullptr;
}

/// Rows with adapters are kept as float32: rounding them to the stored type could lose the change.
void Embedding::hold_adapted(const Device& device, Loader& loader) {
  const int64_t rows = table_.shape[0];
  const size_t row_bytes = static_cast<size_t>(width_) * sizeof(float);
  if (loader.plans()) return loader.add_packed_bytes(static_cast<size_t>(rows) * row_bytes);
  const std::shared_ptr<uint8_t> held(new uint8_t[static_cast<size_t>(rows) * row_bytes],
                                      std::default_delete<uint8_t[]>());
  device.pool.parallel_for(rows, loader.cancel(), [&](int64_t row, int) {
    std::vector<float> values(static_cast<size_t>(width_));
    table_.read(device.kernels.decoders, row * width_, width_, values.data());
    std::memcpy(held.get() + static_cast<size_t>(row) * row_bytes, values.data(), row_bytes);
  });
  table_.type = TensorType::f32;
  table_.bytes = static_cast<uint64_t>(rows) * row_bytes;
  table_.data = held;
  table_.file = nullptr;
  table_.adapters = nullptr;
  table_.rows = nullptr;
  loader.add_packed_bytes(table_.bytes);
}

Tensor Embedding::forward(ForwardContext& base, const int32_t* ids, int64_t n, int64_t length) const {
  Context& ctx = Context::of(base);
  Tensor x(ctx, n, 1, length, width_);
  ctx.parallel(n, [&](int64_t image, int) {
    for (int64_t t = image * length; t < (image + 1) * length; ++t)
      table_.read(ctx.kernels.decoders, ids[t] * width_, width_, data(x) + t * width_);
  });
  return x;
}

void Embedding::add_to(ForwardContext& base, const int32_t* ids, const Tensor& x) const {
  Context& ctx = Context::of(base);
  ctx.parallel(x.n, [&](int64_t image, int) {
    float* vector = thread_scratch(static_cast<size_t>(width_));
    for (int64_t t = image * x.w; t < (image + 1) * x.w; ++t) {
      float* row = data(x) + t * width_;
      table_.read(ctx.kernels.decoders, ids[t] * width_, width_, vector);
      ctx.kernels.add(row, vector, width_, row);
    }
  });
}

}  // namespace nd::cpu
