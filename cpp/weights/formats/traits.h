// A table with one row for each element type of stored tensors: its blocks, its decoder and its encoder.
#pragma once
#include <cstddef>
#include <cstdint>

#include "weights/tensor_type.h"

namespace nd {

/// `count` elements, a multiple of the block, from `data` or to it, which need not be aligned.
using Decode = void (*)(const FloatDecoders& decoders, const uint8_t* data, int64_t count, float* out);
using Encode = void (*)(const float* x, int64_t count, uint8_t* data);

struct TypeTraits {
  TensorType type;
  const char* name;
  int64_t block;        // elements
  int64_t block_bytes;  // of one block
  Decode decode;
  Encode encode;  // nullptr: a type that is only read
};

const TypeTraits& traits(TensorType type);
/// All rows; `count` receives how many.
const TypeTraits* all_traits(int* count);

}  // namespace nd
