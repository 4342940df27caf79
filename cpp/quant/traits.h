// One row for each element type that a stored tensor can have: how elements lie in blocks and how to decode them.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/weights.h"

namespace nd {

struct TypeTraits {
  TensorType type;
  const char* name;
  int64_t block;        // elements
  int64_t block_bytes;  // of one block
  /// `count` elements (a multiple of `block`) beginning at `data`, which need not be aligned.
  void (*decode)(const Kernels& kernels, const uint8_t* data, int64_t count, float* out);
};

const TypeTraits& traits(TensorType type);
/// All rows; `count` receives how many.
const TypeTraits* all_traits(int* count);

}  // namespace nd
