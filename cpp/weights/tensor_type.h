// The element types that a stored tensor can have.
#pragma once
#include <cstdint>
#include <string>

#include "core/float_decoders.h"

namespace nd {

enum class TensorType {
  f32,
  f16,
  bf16,
  q8_0,
  q5_0,
  q5_1,
  q4_0,
  q4_1,
  q6_k,
  q5_k,
  q4_k,
  q3_k,
  q2_k,
  // Only read, never written. f8_e4m3 is torch's float8_e4m3fn: without infinity, NaN in all bits.
  f64,
  f8_e4m3,
  f8_e5m2
};

const char* name_of(TensorType type);
/// By its name in lower case; Error unsupported_model lists the known ones.
TensorType tensor_type(const std::string& name);
/// Bytes of `count` elements, −1 where count does not fill the type's blocks.
int64_t stored_bytes(TensorType type, int64_t count);

/// For reading stored rows where no backend is at hand.
extern const FloatDecoders scalar_decoders;

}  // namespace nd
