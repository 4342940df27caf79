#include "weights/formats/int4_rows.h"

#include <type_traits>

#include "weights/formats/blocks.h"
#include "weights/formats/half.h"

namespace nd {

namespace {

/// 32 int4 values: the low four bits of 16 bytes, then the high ones.
void split(const uint8_t (&qs)[kBlock / 2], uint8_t* q) {
  for (int i = 0; i < kBlock / 2; ++i) {
    q[i] = qs[i] & 15;
    q[i + kBlock / 2] = qs[i] >> 4;
  }
}

void unpack(const BlockQ4_0& block, uint8_t* q, float* scale, float*) {
  split(block.qs, q);
  *scale = read_half(block.d);
}

void unpack(const BlockQ4_1& block, uint8_t* q, float* scale, float* offset) {
  split(block.qs, q);
  *scale = read_half(block.d);
  *offset = read_half(block.m);
}

void unpack(const BlockQ4K& block, uint8_t* q, float* scale, float* offset) {
  const float d = read_half(block.d), dmin = read_half(block.dmin);
  uint8_t scales[8], mins[8];
  unpack_scales_mins(block.scales, scales, mins);
  for (int j = 0; j < 8; ++j) {
    scale[j] = d * static_cast<float>(scales[j]);
    offset[j] = -(dmin * static_cast<float>(mins[j]));
    for (int l = 0; l < kBlock; ++l)
      q[kBlock * j + l] = static_cast<uint8_t>(block.qs[kBlock * (j / 2) + l] >> (j % 2 * 4) & 15);
  }
}

template <class Block>
void unpack_all(const uint8_t* data, int64_t count, uint8_t* q, float* scale, float* offset) {
  constexpr int64_t kScales = Block::kCount / kBlock;
  for (int64_t i = 0; i < count / Block::kCount; ++i)
    unpack(reinterpret_cast<const Block*>(data)[i], q + i * Block::kCount, scale + i * kScales,
           offset + i * kScales);
}

}  // namespace

Int4Kind int4_kind(TensorType type) {
  switch (type) {
    case TensorType::q4_0:
      return Int4Kind::symmetric;
    case TensorType::q4_1:
    case TensorType::q4_k:
      return Int4Kind::offset;
    default:
      return Int4Kind::none;
  }
}

void unpack_int4(TensorType type, const uint8_t* data, int64_t count, uint8_t* q, float* scale,
                 float* offset) {
  switch (type) {
    case TensorType::q4_0:
      return unpack_all<BlockQ4_0>(data, count, q, scale, offset);
    case TensorType::q4_1:
      return unpack_all<BlockQ4_1>(data, count, q, scale, offset);
    default:
      return unpack_all<BlockQ4K>(data, count, q, scale, offset);
  }
}

}  // namespace nd
