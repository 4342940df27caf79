// What the tensor copy engine is told of a tensor of fp16 values: its sizes, strides, and the box of one
// copy.
#pragma once
#include "cuda/driver.h"
#include "cuda/kernels/arguments.h"

namespace nd::cuda {

/// Innermost dimension first; its stride is one element. A box has 64 elements of it, swizzled by 128 bytes.
/// What lies outside of the tensor is read as zeros.
template <size_t Rank>
TensorMapBytes tensor_map(const Driver& driver, const half* data, const int64_t (&sizes)[Rank],
                          const int64_t (&strides)[Rank - 1], const int64_t (&box)[Rank]) {
  // Values of cuda.h: CU_TENSOR_MAP_DATA_TYPE_FLOAT16, …_SWIZZLE_128B, …_L2_PROMOTION_L2_256B.
  constexpr int kHalves = 6, kSwizzle128 = 3, kPromotion256 = 3;
  uint64_t lengths[Rank], bytes[Rank - 1];
  uint32_t boxes[Rank], steps[Rank];
  for (size_t i = 0; i < Rank; ++i) {
    lengths[i] = static_cast<uint64_t>(sizes[i]);
    boxes[i] = static_cast<uint32_t>(box[i]);
    steps[i] = 1;
    if (i + 1 < Rank) bytes[i] = static_cast<uint64_t>(strides[i]) * 2;
  }
  TensorMapBytes map{};
  check(driver,
        driver.tensor_map(&map, kHalves, Rank, const_cast<half*>(data), lengths, bytes, boxes, steps, 0,
                          kSwizzle128, kPromotion256, 0),
        "Could not encode a tensor map");
  return map;
}

}  // namespace nd::cuda
