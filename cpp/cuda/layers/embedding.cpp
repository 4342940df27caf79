#include "cuda/layers/embedding.h"

#include <algorithm>
#include <vector>

#include "weights/formats/half.h"

namespace nd::cuda {

Embedding::Embedding(Device& device, Loader& loader, const StoredTensor& table) : width_(table.shape[1]) {
  constexpr int64_t kPieceRows = 1024;  // cancellation must not wait for CLIP's 49408 rows
  const int64_t rows = table.shape[0];
  const size_t bytes = static_cast<size_t>(rows * width_) * 2;
  table_ = Buffer(device, loader, bytes);
  if (loader.plans()) return;
  std::vector<float> values(static_cast<size_t>(kPieceRows * width_));
  WeightUpload upload(device);
  for (int64_t first = 0; first < rows; first += kPieceRows) {
    if (loader.cancel()) loader.cancel()->check();
    const int64_t count = std::min(kPieceRows, rows - first) * width_;
    for (int64_t row = 0; row < count / width_; ++row)
      table.read(scalar_decoders, (first + row) * width_, width_, values.data() + row * width_);
    uint16_t* fp16 = upload.reserve<uint16_t>(count);
    for (int64_t i = 0; i < count; ++i) fp16[i] = float_to_half(values[static_cast<size_t>(i)]);
    upload.send(table_, static_cast<size_t>(first * width_) * 2, fp16, count);
  }
  upload.finish();
}

void Embedding::gather(ForwardContext& base, const int32_t* ids, const Tensor& y, bool add) const {
  Context& ctx = Context::of(base);
  const Scratch<int32_t> numbers(ctx, y.rows());
  const size_t bytes = static_cast<size_t>(y.rows()) * sizeof(int32_t);
  ctx.to_device(numbers.address(),
                [to = numbers.address(), ids, bytes](Staging& staging) { staging.upload(to, ids, bytes); });
  const GatherArgs args{
      pointer<half>(table_.address()), numbers.data(), data(y), narrow(y.rows()), narrow(width_), add};
  ctx.launch(Kernel::gather, {pieces_of(y.size(), kMoveThreads)}, args);
}

Tensor Embedding::forward(ForwardContext& ctx, const int32_t* ids, int64_t n, int64_t length) const {
  Tensor y(ctx, n, 1, length, width_);
  gather(ctx, ids, y, false);
  return y;
}

void Embedding::add_to(ForwardContext& ctx, const int32_t* ids, const Tensor& x) const {
  gather(ctx, ids, x, true);
}

}  // namespace nd::cuda
