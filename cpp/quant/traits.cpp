#include "quant/traits.h"

#include <cstring>

#include "core/error.h"

namespace nd {

namespace {

void decode_f32(const Kernels&, const uint8_t* data, int64_t count, float* out) {
  std::memcpy(out, data, static_cast<size_t>(count) * sizeof(float));
}

using Convert = void (*)(const uint16_t*, int64_t, float*);

// Files place tensors at any byte; the converters want whole 16-bit addresses.
void convert_unaligned(Convert convert, const uint8_t* data, int64_t count, float* out) {
  if (reinterpret_cast<uintptr_t>(data) % alignof(uint16_t) == 0) {
    convert(reinterpret_cast<const uint16_t*>(data), count, out);
    return;
  }
  constexpr int64_t kPiece = 2048;
  uint16_t piece[kPiece];
  for (int64_t i = 0; i < count; i += kPiece) {
    const int64_t length = count - i < kPiece ? count - i : kPiece;
    std::memcpy(piece, data + 2 * i, static_cast<size_t>(length) * 2);
    convert(piece, length, out + i);
  }
}

void decode_f16(const Kernels& kernels, const uint8_t* data, int64_t count, float* out) {
  convert_unaligned(kernels.half_to_float, data, count, out);
}

void decode_bf16(const Kernels& kernels, const uint8_t* data, int64_t count, float* out) {
  convert_unaligned(kernels.bfloat16_to_float, data, count, out);
}

const TypeTraits kTraits[] = {
    {TensorType::f32, "f32", 1, 4, decode_f32},
    {TensorType::f16, "f16", 1, 2, decode_f16},
    {TensorType::bf16, "bf16", 1, 2, decode_bf16},
};

}  // namespace

const TypeTraits& traits(TensorType type) {
  for (const TypeTraits& row : kTraits)
    if (row.type == type) return row;
  throw Error(ErrorCode::unsupported_model, "Element type " + std::to_string(static_cast<int>(type)) + " is not known");
}

const TypeTraits* all_traits(int* count) {
  *count = sizeof kTraits / sizeof kTraits[0];
  return kTraits;
}

}  // namespace nd
