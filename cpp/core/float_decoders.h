// How stored weights become float32: by a backend's kernels, or by scalar code.
#pragma once
#include <cstdint>

namespace nd {

struct FloatDecoders {
  void (*half_to_float)(const uint16_t* x, int64_t count, float* out);
  void (*bfloat16_to_float)(const uint16_t* x, int64_t count, float* out);
  /// out[j] += Σᵢ scale[i] · rows[i·length + j], for the low-rank factors of adapters.
  void (*add_scaled_rows)(const float* scale, const float* rows, int64_t count, int64_t length, float* out);
};

}  // namespace nd
