// f32, f16 and bf16: types without blocks.
#include "weights/formats/floats.h"

#include <cstring>

#include "weights/formats/half.h"

namespace nd {

namespace {

using Convert = void (*)(const uint16_t*, int64_t, float*);

// Files can place tensors at any byte; the converters need addresses aligned to 16 bits.
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

template <uint16_t Narrow(float)>
void encode_16(const float* x, int64_t count, uint8_t* data) {
  for (int64_t i = 0; i < count; ++i) {
    const uint16_t bits = Narrow(x[i]);
    data[2 * i] = static_cast<uint8_t>(bits);
    data[2 * i + 1] = static_cast<uint8_t>(bits >> 8);
  }
}

}  // namespace

void decode_f32(const FloatDecoders&, const uint8_t* data, int64_t count, float* out) {
  std::memcpy(out, data, static_cast<size_t>(count) * sizeof(float));
}

void decode_f16(const FloatDecoders& decoders, const uint8_t* data, int64_t count, float* out) {
  convert_unaligned(decoders.half_to_float, data, count, out);
}

void decode_bf16(const FloatDecoders& decoders, const uint8_t* data, int64_t count, float* out) {
  convert_unaligned(decoders.bfloat16_to_float, data, count, out);
}

void encode_f32(const float* x, int64_t count, uint8_t* data) {
  std::memcpy(data, x, static_cast<size_t>(count) * sizeof(float));
}

void encode_f16(const float* x, int64_t count, uint8_t* data) {
  encode_16<float_to_half>(x, count, data);
}

void encode_bf16(const float* x, int64_t count, uint8_t* data) {
  encode_16<float_to_bfloat16>(x, count, data);
}

}  // namespace nd
