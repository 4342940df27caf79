// Decoders and encoders of types without blocks for the traits table, at any address. Encoding rounds to
// nearest, ties to even, as does decoding f64; other decoders are exact.
#pragma once
#include "weights/tensor_type.h"

namespace nd {

void decode_f32(const FloatDecoders& decoders, const uint8_t* data, int64_t count, float* out);
void decode_f16(const FloatDecoders& decoders, const uint8_t* data, int64_t count, float* out);
void decode_bf16(const FloatDecoders& decoders, const uint8_t* data, int64_t count, float* out);
void decode_f64(const FloatDecoders& decoders, const uint8_t* data, int64_t count, float* out);
void decode_f8_e4m3(const FloatDecoders& decoders, const uint8_t* data, int64_t count, float* out);
void decode_f8_e5m2(const FloatDecoders& decoders, const uint8_t* data, int64_t count, float* out);
void encode_f32(const float* x, int64_t count, uint8_t* data);
void encode_f16(const float* x, int64_t count, uint8_t* data);
void encode_bf16(const float* x, int64_t count, uint8_t* data);

}  // namespace nd
