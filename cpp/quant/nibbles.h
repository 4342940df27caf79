// Stored rows of the types whose elements are four bits with a scale (and minimum) for each 32, taken apart
// for kernels/nibbles.h.
#pragma once
#include "core/weights.h"
#include "kernels/nibbles.h"

namespace nd {

enum class Nibbles { none, symmetric, offset };

/// What a type's rows are as nibbles, if they are.
Nibbles nibbles_of(TensorType type);

/// `count` elements (of whole blocks of the type): q[count], scale[count / 32], and offset[count / 32] for
/// types with minima.
void unpack_nibbles(TensorType type, const uint8_t* data, int64_t count, uint8_t* q, float* scale,
                    float* offset);

}  // namespace nd
