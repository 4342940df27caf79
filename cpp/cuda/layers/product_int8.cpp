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

Buffer codes_and_scales(Device& device, const Loader& loader, const StoredBlocks& stored) {
  int64_t elements = 0;
  for (const StoredTensor& tensor : stored.tensors) elements += tensor.count();
  Buffer buffer(device, static_cast<size_t>(elements / kBlock * kBlockBytes));
  const int64_t piece = static_cast<int64_t>(WeightFile::kBuffer) / kBlockBytes * kBlock;
  std::vector<uint8_t> codes(static_cast<size_t>(std::min(piece, elements)));
  std::vector<uint16_t> scales(codes.size() / kBlock);
  int64_t at = 0;
  for (const StoredTensor& tensor : stored.tensors)
    for (int64_t begin = 0; begin < tensor.count(); begin += piece) {
      if (loader.cancel()) loader.cancel()->check();
      const int64_t count = std::min(piece, tensor.count() - begin), blocks = count / kBlock;
      const uint8_t* from = tensor.blocks(begin, count);
      for (int64_t i = 0; i < blocks; ++i, from += kBlockBytes) {
        std::memcpy(&scales[static_cast<size_t>(i)], from, kScaleBytes);
        std::memcpy(&codes[static_cast<size_t>(i * kBlock)], from + kScaleBytes, kBlock);
      }
      buffer.fill(codes.data(), static_cast<size_t>(count), static_cast<size_t>(at));
      buffer.fill(scales.data(), static_cast<size_t>(blocks * kScaleBytes),
                  static_cast<size_t>(elements + at / kBlock * kScaleBytes));
      at += count;
    }
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
