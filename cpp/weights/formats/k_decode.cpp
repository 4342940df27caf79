// q6_k, q5_k, q4_k, q3_k, q2_k: super-blocks of 256 with a scale (and min) for each sub-block. The order of
// the products is ggml's: (d·scale)·q − (dmin·min), every step rounded to float32.
#include "weights/formats/codecs.h"
#include "weights/formats/half.h"

namespace nd {

namespace {

/// out[i] = scale·q[i] − min, for one sub-block.
template <int N>
void scaled(const int8_t* q, float scale, float min, float* out) {
  for (int i = 0; i < N; ++i) out[i] = scale * static_cast<float>(q[i]) - min;
}

template <int N>
void scaled(const int8_t* q, float scale, float* out) {
  for (int i = 0; i < N; ++i) out[i] = scale * static_cast<float>(q[i]);
}

/// The two bits of every element of q2_k and q3_k: four runs of 32 from each 32 bytes.
void unpack_pairs(const uint8_t (&qs)[kSuperBlock / 4], int8_t (&q)[kSuperBlock]) {
  for (int n = 0; n < 2; ++n)
    for (int j = 0; j < 4; ++j)
      for (int l = 0; l < 32; ++l) q[128 * n + 32 * j + l] = static_cast<int8_t>(qs[32 * n + l] >> 2 * j & 3);
}

/// The four low bits of every element of q4_k and q5_k: two runs of 32 from each 32 bytes.
void unpack_int4(const uint8_t (&qs)[kSuperBlock / 2], int8_t (&q)[kSuperBlock]) {
  for (int c = 0; c < 4; ++c)
    for (int l = 0; l < 32; ++l) {
      q[64 * c + l] = static_cast<int8_t>(qs[32 * c + l] & 15);
      q[64 * c + 32 + l] = static_cast<int8_t>(qs[32 * c + l] >> 4);
    }
}

/// q4_k and q5_k, once their elements are unpacked.
template <class Block>
void scale_by_32(const Block& block, const int8_t (&q)[kSuperBlock], float* out) {
  const float d = read_half(block.d), dmin = read_half(block.dmin);
  uint8_t scales[8], mins[8];
  unpack_scales_mins(block.scales, scales, mins);
  for (int j = 0; j < 8; ++j) {
    const float scale = d * static_cast<float>(scales[j]), min = dmin * static_cast<float>(mins[j]);
    scaled<32>(q + 32 * j, scale, min, out + 32 * j);
  }
}

}  // namespace

void decode_q2_k(const FloatDecoders&, const uint8_t* data, int64_t count, float* out) {
  for_blocks<BlockQ2K>(data, count, out, [](const BlockQ2K& block, float* to) {
    const float d = read_half(block.d), dmin = read_half(block.dmin);
    int8_t q[kSuperBlock];
    unpack_pairs(block.qs, q);
    for (int j = 0; j < 16; ++j) {
      const float scale = d * static_cast<float>(block.scales[j] & 15);
      const float min = dmin * static_cast<float>(block.scales[j] >> 4);
      scaled<16>(q + 16 * j, scale, min, to + 16 * j);
    }
  });
}

void decode_q3_k(const FloatDecoders&, const uint8_t* data, int64_t count, float* out) {
  for_blocks<BlockQ3K>(data, count, out, [](const BlockQ3K& block, float* to) {
    const float d = read_half(block.d);
    int8_t scales[16], q[kSuperBlock];
    unpack_scales(block.scales, scales);
    unpack_pairs(block.qs, q);
    for (int run = 0; run < 8; ++run)
      for (int l = 0; l < 32; ++l) {
        int8_t& value = q[32 * run + l];
        value = static_cast<int8_t>(value - ((block.hmask[l] >> run & 1) ? 0 : 4));
      }
    for (int j = 0; j < 16; ++j) scaled<16>(q + 16 * j, d * static_cast<float>(scales[j]), to + 16 * j);
  });
}

void decode_q4_k(const FloatDecoders&, const uint8_t* data, int64_t count, float* out) {
  for_blocks<BlockQ4K>(data, count, out, [](const BlockQ4K& block, float* to) {
    int8_t q[kSuperBlock];
    unpack_int4(block.qs, q);
    scale_by_32(block, q, to);
  });
}

void decode_q5_k(const FloatDecoders&, const uint8_t* data, int64_t count, float* out) {
  for_blocks<BlockQ5K>(data, count, out, [](const BlockQ5K& block, float* to) {
    int8_t q[kSuperBlock];
    unpack_int4(block.qs, q);
    for (int j = 0; j < 8; ++j)
      for (int l = 0; l < 32; ++l) {
        int8_t& value = q[32 * j + l];
        value = static_cast<int8_t>(value | (block.qh[l] >> j & 1) << 4);
      }
    scale_by_32(block, q, to);
  });
}

void decode_q6_k(const FloatDecoders&, const uint8_t* data, int64_t count, float* out) {
  for_blocks<BlockQ6K>(data, count, out, [](const BlockQ6K& block, float* to) {
    const float d = read_half(block.d);
    int8_t q[kSuperBlock];
    for (int n = 0; n < 2; ++n)
      for (int l = 0; l < 64; ++l) {
        q[128 * n + l] = static_cast<int8_t>(block.ql[64 * n + l] & 15);
        q[128 * n + 64 + l] = static_cast<int8_t>(block.ql[64 * n + l] >> 4);
      }
    for (int n = 0; n < 2; ++n)
      for (int j = 0; j < 4; ++j)
        for (int l = 0; l < 32; ++l) {
          int8_t& value = q[128 * n + 32 * j + l];
          value = static_cast<int8_t>((value | (block.qh[32 * n + l] >> 2 * j & 3) << 4) - 32);
        }
    for (int j = 0; j < 16; ++j) scaled<16>(q + 16 * j, d * static_cast<float>(block.scales[j]), to + 16 * j);
  });
}

}  // namespace nd
