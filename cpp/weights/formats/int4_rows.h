// Rows of the four-bit types (a scale, and for some a minimum, for every 32 elements), split into their parts
// so that a backend can keep them in four bits.
#pragma once
#include "weights/tensor_type.h"

namespace nd {

/// symmetric: scale·(q − 8). offset: scale·q + offset.
enum class Int4Kind { none, symmetric, offset };

/// What kind of four-bit rows a type has, if it has.
Int4Kind int4_kind(TensorType type);

/// Elements with one scale.
constexpr int64_t kInt4RowBlock = 32;

/// `count` elements (of whole blocks of the type): q[count], scale[count / 32], and offset[count / 32] for
/// types with minima.
void unpack_int4(TensorType type, const uint8_t* data, int64_t count, uint8_t* q, float* scale,
                 float* offset);

}  // namespace nd
