#include "weights/tensor_type.h"

#include "core/error.h"
#include "weights/formats/half.h"
#include "weights/formats/traits.h"

namespace nd {
namespace {

void half_row(const uint16_t* x, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = half_to_float(x[i]);
}

void bfloat16_row(const uint16_t* x, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = float_of(static_cast<uint32_t>(x[i]) << 16);
}

void add_scaled_rows(const float* scale, const float* rows, int64_t count, int64_t length, float* out) {
  for (int64_t i = 0; i < count; ++i)
    for (int64_t j = 0; j < length; ++j) out[j] += scale[i] * rows[i * length + j];
}

}  // namespace

const FloatDecoders scalar_decoders = {half_row, bfloat16_row, add_scaled_rows};

const char* name_of(TensorType type) {
  return traits(type).name;
}

TensorType tensor_type(const std::string& name) {
  int count;
  const TypeTraits* rows = all_traits(&count);
  std::string known;
  for (int i = 0; i < count; ++i) {
    if (name == rows[i].name) return rows[i].type;
    known += (i ? ", " : "") + std::string(rows[i].name);
  }
  throw Error(ErrorCode::unsupported_model, "Element type " + name + " is not supported; known are " + known);
}

int64_t stored_bytes(TensorType type, int64_t count) {
  const TypeTraits& row = traits(type);
  if (count % row.block != 0) return -1;
  return count / row.block * row.block_bytes;
}

}  // namespace nd
