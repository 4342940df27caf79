// Elements of ggml's blocks, whose bytes lie in memory as files have them (cpp/weights/formats/blocks.h
// describes them): the sub-block's scale and minimum, and an element's code, so that x = scale · code −
// minimum. Blocks have even sizes, and all their 16-bit fields even offsets. A float8 is a code, too.
#pragma once
#include "cuda/kernels/device.h"

namespace nd::cuda {

constexpr DEVICE bool is_float8(BlockType type) {
  return type == BlockType::f8_e4m3 || type == BlockType::f8_e5m2;
}

struct SubBlock {
  float scale, minimum;
};

/// Two roundings, as on the host: the same bits.
DEVICE float value(const SubBlock& part, float code) {
  return __fadd_rn(__fmul_rn(part.scale, code), -part.minimum);
}

DEVICE float half_at(const unsigned char* at) {
  return __half2float(*reinterpret_cast<const half*>(at));
}

/// Scale and minimum j of q4_k and q5_k: six bits each, in 12 bytes.
DEVICE SubBlock six_bits(const unsigned char* block, int j) {
  const unsigned char* b = block + 4;
  const int low = j % 4;
  const int scale = j < 4 ? b[low] & 63 : (b[low + 8] & 15) | b[low] >> 6 << 4;
  const int minimum = j < 4 ? b[low + 4] & 63 : b[low + 8] >> 4 | b[low + 4] >> 6 << 4;
  return {half_at(block) * static_cast<float>(scale), half_at(block + 2) * static_cast<float>(minimum)};
}

/// Of element i, and of all others of its 16.
template <BlockType Type>
DEVICE SubBlock sub_block(const unsigned char* block, int i) {
  switch (Type) {
    case BlockType::q4_1:
    case BlockType::q5_1:
      return {half_at(block), -half_at(block + 2)};
    case BlockType::q2_k: {
      const int both = block[i / 16];
      return {half_at(block + 80) * static_cast<float>(both & 15),
              half_at(block + 82) * static_cast<float>(both >> 4)};
    }
    case BlockType::q3_k: {
      const unsigned char* b = block + 96;
      const int j = i / 16, low = b[j % 8] >> (j / 8 * 4) & 15, high = b[8 + j % 4] >> (j / 4 * 2) & 3;
      return {half_at(block + 108) * static_cast<float>((low | high << 4) - 32), 0};
    }
    case BlockType::q4_k:
    case BlockType::q5_k:
      return six_bits(block, i / 32);
    case BlockType::q6_k:
      return {half_at(block + 208) * static_cast<float>(static_cast<signed char>(block[192 + i / 16])), 0};
    default:
      return {half_at(block), 0};
  }
}

/// A float8 as the float of the same exponent and mantissa bits, whose bias is larger. See floats.cpp.
template <BlockType Type>
DEVICE float float8(int bits) {
  const int size = bits & 127;
  float x;
  if (Type == BlockType::f8_e4m3)
    x = size == 127 ? __int_as_float(0x7fc00000) : __int_as_float(size << 20) * 0x1p120f;
  else
    x = size >= 124 ? __int_as_float(0x7f800000 | size << 21) : __int_as_float(size << 21) * 0x1p112f;
  return bits & 128 ? -x : x;
}

template <BlockType Type>
DEVICE int integer_code(const unsigned char* block, int i) {
  const int four = i / 16 * 4, pair = i / 128 * 32 + i % 32, shift = i / 32 % 4 * 2;
  switch (Type) {
    case BlockType::q8_0:
      return static_cast<signed char>(block[2 + i]);
    case BlockType::q8_apart:
      return static_cast<signed char>(block[i]);
    case BlockType::q4_0:
      return (block[2 + i % 16] >> four & 15) - 8;
    case BlockType::q4_1:
      return block[4 + i % 16] >> four & 15;
    case BlockType::q5_0:
      return ((block[6 + i % 16] >> four & 15) | (block[2 + i / 8] >> i % 8 & 1) << 4) - 16;
    case BlockType::q5_1:
      return (block[8 + i % 16] >> four & 15) | (block[4 + i / 8] >> i % 8 & 1) << 4;
    case BlockType::q2_k:
      return block[16 + pair] >> shift & 3;
    case BlockType::q3_k:
      return (block[32 + pair] >> shift & 3) - ((block[i % 32] >> i / 32 & 1) ? 0 : 4);
    case BlockType::q4_k:
      return block[16 + i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15;
    case BlockType::q5_k:
      return (block[48 + i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15) | (block[16 + i % 32] >> i / 32 & 1)
                                                                               << 4;
    case BlockType::q6_k:
      return ((block[i / 128 * 64 + i % 64] >> (i / 64 % 2 * 4) & 15) | (block[128 + pair] >> shift & 3)
                                                                            << 4) -
             32;
    default:
      return 0;
  }
}

/// Of element i.
template <BlockType Type>
DEVICE float code(const unsigned char* block, int i) {
  if (is_float8(Type)) return float8<Type>(block[i]);
  return static_cast<float>(integer_code<Type>(block, i));
}

}  // namespace nd::cuda
