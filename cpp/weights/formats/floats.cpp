// Types without blocks: f32, f16, bf16, f64 and both kinds of f8.
#include "weights/formats/floats.h"

#include <array>
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

/// Four bits of exponent with a bias of 7, three of mantissa, no infinity: https://arxiv.org/abs/2209.05433.
float e4m3_to_float(uint8_t code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  float size = exponent ? static_cast<float>(8 + mantissa) : static_cast<float>(mantissa);
  for (int i = exponent ? exponent : 1; i < 10; ++i) size *= 0.5f;
  for (int i = 10; i < exponent; ++i) size *= 2.0f;
  if ((code & 0x7f) == 0x7f) size = float_of(0x7fc00000u);
  return float_of(bits_of(size) | static_cast<uint32_t>(code & 0x80) << 24);
}

/// The upper half of a float16.
float e5m2_to_float(uint8_t code) {
  return half_to_float(static_cast<uint16_t>(code << 8));
}

using Table = std::array<float, 256>;

template <float ToFloat(uint8_t)>
Table table_of() {
  Table table;
  for (int code = 0; code < 256; ++code)
    table[static_cast<size_t>(code)] = ToFloat(static_cast<uint8_t>(code));
  return table;
}

template <float ToFloat(uint8_t)>
void look_up(const uint8_t* data, int64_t count, float* out) {
  static const Table table = table_of<ToFloat>();
  for (int64_t i = 0; i < count; ++i) out[i] = table[data[i]];
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

void decode_f64(const FloatDecoders&, const uint8_t* data, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    double x;
    std::memcpy(&x, data + 8 * i, sizeof x);
    out[i] = static_cast<float>(x);
  }
}

void decode_f8_e4m3(const FloatDecoders&, const uint8_t* data, int64_t count, float* out) {
  look_up<e4m3_to_float>(data, count, out);
}

void decode_f8_e5m2(const FloatDecoders&, const uint8_t* data, int64_t count, float* out) {
  look_up<e5m2_to_float>(data, count, out);
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
