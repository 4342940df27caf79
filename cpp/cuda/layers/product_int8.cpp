#include "cuda/layers/product_int8.h"

#include <algorithm>
#include <cstring>

#include "core/thread_pool.h"
#include "weights/formats/blocks.h"

namespace nd::cuda {
namespace {

constexpr int64_t kScaleBytes = 2, kBlockBytes = kScaleBytes + kBlock;  // of q8_0
static_assert(kBlock == kInt8Block);

}  // namespace

bool holds_int8(const StoredBlocks& stored, int64_t in) {
  int64_t elements = 0;
  for (const StoredTensor& tensor : stored.tensors) elements += tensor.count();
  const StoredTensor& first = stored.tensors.front();
  return stored.int8 && first.type == TensorType::q8_0 && !stored.folded && in % kInt8K == 0 &&
         (first.channels_last || stored.taps == 1) && stored.taps <= kInt8Taps && elements <= kMaxCount;
}

Buffer codes_and_scales(Device& device, Loader& loader, const StoredBlocks& stored) {
  int64_t elements = 0;
  for (const StoredTensor& tensor : stored.tensors) elements += tensor.count();
  Buffer buffer(device, loader, static_cast<size_t>(elements / kBlock * kBlockBytes));
  if (loader.plans()) return buffer;
  constexpr int64_t kPiece = int64_t{2} << 20;  // codes and scales of a part
  const int64_t read = static_cast<int64_t>(WeightFile::kBuffer) / kBlockBytes * kBlock;
  WeightUpload upload(device);
  int64_t at = 0;
  for (const StoredTensor& tensor : stored.tensors)
    for (int64_t begin = 0; begin < tensor.count(); begin += kPiece) {
      const int64_t count = std::min(kPiece, tensor.count() - begin);
      uint8_t* const codes = upload.reserve<uint8_t>(count + count / kBlock * kScaleBytes);
      uint8_t* const scales = codes + count;
      for (int64_t first = 0; first < count; first += read) {
        if (loader.cancel()) loader.cancel()->check();
        const int64_t blocks = std::min(read, count - first) / kBlock;
        const uint8_t* from = tensor.blocks(begin + first, blocks * kBlock);
        for (int64_t i = first / kBlock; i < first / kBlock + blocks; ++i, from += kBlockBytes) {
          std::memcpy(scales + i * kScaleBytes, from, kScaleBytes);
          std::memcpy(codes + i * kBlock, from + kScaleBytes, kBlock);
        }
      }
      upload.send(buffer, static_cast<size_t>(at), codes, count);
      upload.send(buffer, static_cast<size_t>(elements + at / kBlock * kScaleBytes), scales,
                  count / kBlock * kScaleBytes);
      at += count;
    }
  upload.finish();
  return buffer;
}

void quantize(Context& ctx, const Tensor& x, const Int8Tensor& to) {
  const QuantizeArgs args{data(x), to.rows(), x.size() / 8};
  ctx.launch(Kernel::quantize_rows, {pieces_of(args.total, kMoveThreads)}, args);
}

void launch_int8(Context& ctx, const ProductArgs& args, const ProductPlan& plan, const Int8Tensor& x,
                 Address codes, const half* scales) {
  const Int8ProductArgs product{args, x.rows().codes, x.rows().scales, pointer<signed char>(codes),
                                reinterpret_cast<const uint32_t*>(scales)};
  ctx.launch(plan.kernel, plan.grid, product);
}

}  // namespace nd::cuda
