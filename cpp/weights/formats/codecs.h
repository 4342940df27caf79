// Decoders and encoders of the quantized types, to be put in the traits table. `count` is a multiple of the
// block's elements; `data` may have any address. Encoders accept any floats: NaN and infinity give a block
// whose conversion error shows it.
#pragma once
#include <type_traits>

#include "weights/formats/blocks.h"
#include "weights/formats/traits.h"

namespace nd {

// plain.cpp
void decode_q8_0(const FloatDecoders& decoders, const uint8_t* data, int64_t count, float* out);
void decode_q5_0(const FloatDecoders& decoders, const uint8_t* data, int64_t count, float* out);
void decode_q5_1(const FloatDecoders& decoders, const uint8_t* data, int64_t count, float* out);
void decode_q4_0(const FloatDecoders& decoders, const uint8_t* data, int64_t count, float* out);
void decode_q4_1(const FloatDecoders& decoders, const uint8_t* data, int64_t count, float* out);
void encode_q8_0(const float* x, int64_t count, uint8_t* data);
void encode_q5_0(const float* x, int64_t count, uint8_t* data);
void encode_q5_1(const float* x, int64_t count, uint8_t* data);
void encode_q4_0(const float* x, int64_t count, uint8_t* data);
void encode_q4_1(const float* x, int64_t count, uint8_t* data);

// k_decode.cpp
void decode_q6_k(const FloatDecoders& decoders, const uint8_t* data, int64_t count, float* out);
void decode_q5_k(const FloatDecoders& decoders, const uint8_t* data, int64_t count, float* out);
void decode_q4_k(const FloatDecoders& decoders, const uint8_t* data, int64_t count, float* out);
void decode_q3_k(const FloatDecoders& decoders, const uint8_t* data, int64_t count, float* out);
void decode_q2_k(const FloatDecoders& decoders, const uint8_t* data, int64_t count, float* out);

// k_encode.cpp
void encode_q6_k(const float* x, int64_t count, uint8_t* data);
void encode_q5_k(const float* x, int64_t count, uint8_t* data);
void encode_q4_k(const float* x, int64_t count, uint8_t* data);
void encode_q3_k(const float* x, int64_t count, uint8_t* data);
void encode_q2_k(const float* x, int64_t count, uint8_t* data);

/// Calls each(block, its first element) for the blocks of `count` elements.
template <class Block, class Byte, class Float, class Each>
void for_blocks(Byte* data, int64_t count, Float* x, Each each) {
  // Blocks consist of bytes only, so any address is aligned for them.
  for (int64_t i = 0; i < count; i += Block::kCount, data += sizeof(Block), x += Block::kCount) {
    if constexpr (std::is_const<Byte>::value)
      each(*reinterpret_cast<const Block*>(data), x);
    else
      each(*reinterpret_cast<Block*>(data), x);
  }
}

}  // namespace nd
