// How 16-bit floats become float32: by a backend's kernels, or by scalar code.
#pragma once
#include <cstdint>

namespace nd {

struct FloatDecoders {
  void (*half_to_float)(const uint16_t* x, int64_t count, float* out);
  void (*bfloat16_to_float)(const uint16_t* x, int64_t count, float* out);
};

}  // namespace nd
