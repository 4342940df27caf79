// q8_0, q5_0, q5_1, q4_0, q4_1: blocks of 32. q8_0 is rounded as ggml's reference encoder does, to the same
// bytes. The others choose the scale (and min) by least squares: with so few levels, that takes a tenth off
// the squared error of a scale that follows from the largest value.
#include "weights/formats/codecs.h"
#include "weights/formats/half.h"
#include "weights/formats/k_search.h"

namespace nd {

namespace {

constexpr int kHalf = kBlock / 2;

/// The fifth bits of a block, one byte each: 0 or 16.
void fifth_bits(const uint8_t (&qh)[kBlock / 8], uint8_t (&out)[kBlock]) {
  for (int i = 0; i < kBlock / 8; ++i) {
    // Eight copies of the byte, of each its own bit, and 0x7f carries any bit into the highest.
    const uint64_t own = (qh[i] * 0x0101010101010101u) & 0x8040201008040201u;
    const uint64_t bits = ((own + 0x7f7f7f7f7f7f7f7fu) & 0x8080808080808080u) >> 3;
    for (int j = 0; j < 8; ++j) out[8 * i + j] = static_cast<uint8_t>(bits >> 8 * j);
  }
}

/// out = (four bits | fifth) − zero, times d, and plus m where there is one.
template <bool Min>
void decode_int4(const uint8_t (&qs)[kHalf], const uint8_t* fifth, int zero, float d, float m, float* out) {
  int8_t q[kBlock];
  for (int i = 0; i < kHalf; ++i) {
    q[i] = static_cast<int8_t>(qs[i] & 15);
    q[i + kHalf] = static_cast<int8_t>(qs[i] >> 4);
  }
  if (fifth)
    for (int i = 0; i < kBlock; ++i) q[i] = static_cast<int8_t>(q[i] | fifth[i]);
  for (int i = 0; i < kBlock; ++i) {
    const float product = static_cast<float>(q[i] - zero) * d;
    out[i] = Min ? product + m : product;
  }
}

/// The value of largest magnitude, with its sign; the first of several.
float extreme(const float* x) {
  float size = 0.0f, value = 0.0f;
  for (int i = 0; i < kBlock; ++i) {
    const float a = x[i] < 0.0f ? -x[i] : x[i];
    if (a > size) {
      size = a;
      value = x[i];
    }
  }
  return value;
}

void pack_int4(const uint8_t (&q)[kBlock], uint8_t (&qs)[kHalf]) {
  for (int i = 0; i < kHalf; ++i) qs[i] = static_cast<uint8_t>((q[i] & 15) | q[i + kHalf] << 4);
}

void pack_fifth_bits(const uint8_t (&q)[kBlock], uint8_t (&qh)[kBlock / 8]) {
  for (uint8_t& byte : qh) byte = 0;
  for (int i = 0; i < kBlock; ++i) qh[i / 8] = static_cast<uint8_t>(qh[i / 8] | (q[i] >> 4) << i % 8);
}

/// The half nearest to x in `stored`; returns it as the decoder will read it.
float store_half(float x, uint8_t (&stored)[2]) {
  write_half(x, stored);
  return read_half(stored);
}

/// The levels as unsigned integers, `zero` added to each.
void store_levels(const Levels<kBlock>& levels, int zero, uint8_t (&q)[kBlock]) {
  for (int i = 0; i < kBlock; ++i) q[i] = static_cast<uint8_t>(static_cast<int32_t>(levels[i]) + zero);
}

/// Levels 0…2·zero−1 around `zero`.
void quantize_symmetric(const float* x, int zero, uint8_t (&d)[2], uint8_t (&q)[kBlock]) {
  const float scale = store_half(fit_scale<kBlock>(x, zero), d);
  const float low = static_cast<float>(-zero);
  store_levels(Levels<kBlock>(x, inverse(scale), 0.0f, low, -low - 1.0f), zero, q);
}

/// Levels 0…top above the lowest value, or near it.
void quantize_range(const float* x, int top, uint8_t (&d)[2], uint8_t (&m)[2], uint8_t (&q)[kBlock]) {
  const ScaleMin fit = fit_scale_min<kBlock>(x, top, MinSign::any);
  const float factor = inverse(store_half(fit.scale, d)), low = store_half(-fit.min, m);
  store_levels(Levels<kBlock>(x, factor, -low * factor, 0.0f, static_cast<float>(top)), 0, q);
}

}  // namespace

void decode_q8_0(const FloatDecoders&, const uint8_t* data, int64_t count, float* out) {
  for_blocks<BlockQ8_0>(data, count, out, [](const BlockQ8_0& block, float* to) {
    const float d = read_half(block.d);
    for (int i = 0; i < kBlock; ++i) to[i] = static_cast<float>(block.qs[i]) * d;
  });
}

void decode_q4_0(const FloatDecoders&, const uint8_t* data, int64_t count, float* out) {
  for_blocks<BlockQ4_0>(data, count, out, [](const BlockQ4_0& block, float* to) {
    decode_int4<false>(block.qs, nullptr, 8, read_half(block.d), 0.0f, to);
  });
}

void decode_q4_1(const FloatDecoders&, const uint8_t* data, int64_t count, float* out) {
  for_blocks<BlockQ4_1>(data, count, out, [](const BlockQ4_1& block, float* to) {
    decode_int4<true>(block.qs, nullptr, 0, read_half(block.d), read_half(block.m), to);
  });
}

void decode_q5_0(const FloatDecoders&, const uint8_t* data, int64_t count, float* out) {
  for_blocks<BlockQ5_0>(data, count, out, [](const BlockQ5_0& block, float* to) {
    uint8_t fifth[kBlock];
    fifth_bits(block.qh, fifth);
    decode_int4<false>(block.qs, fifth, 16, read_half(block.d), 0.0f, to);
  });
}

void decode_q5_1(const FloatDecoders&, const uint8_t* data, int64_t count, float* out) {
  for_blocks<BlockQ5_1>(data, count, out, [](const BlockQ5_1& block, float* to) {
    uint8_t fifth[kBlock];
    fifth_bits(block.qh, fifth);
    decode_int4<true>(block.qs, fifth, 0, read_half(block.d), read_half(block.m), to);
  });
}

void encode_q8_0(const float* x, int64_t count, uint8_t* data) {
  for_blocks<BlockQ8_0>(data, count, x, [](BlockQ8_0& block, const float* from) {
    const float value = extreme(from), scale = (value < 0.0f ? -value : value) / 127.0f;
    write_half(scale, block.d);
    const float factor = inverse(scale);
    for (int i = 0; i < kBlock; ++i) {
      const float q = from[i] * factor, a = q < 0.0f ? -q : q;
      // Halves away from zero. a + 0.5 would round 0.49999997 up.
      const float bounded = a < 127.0f ? a : a >= 127.0f ? 127.0f : 0.0f;  // NaN: 0
      const int32_t whole = static_cast<int32_t>(bounded);
      const int32_t rounded = whole + (bounded - static_cast<float>(whole) >= 0.5f ? 1 : 0);
      block.qs[i] = static_cast<int8_t>(q < 0.0f ? -rounded : rounded);
    }
  });
}

void encode_q4_0(const float* x, int64_t count, uint8_t* data) {
  for_blocks<BlockQ4_0>(data, count, x, [](BlockQ4_0& block, const float* from) {
    uint8_t q[kBlock];
    quantize_symmetric(from, 8, block.d, q);
    pack_int4(q, block.qs);
  });
}

void encode_q4_1(const float* x, int64_t count, uint8_t* data) {
  for_blocks<BlockQ4_1>(data, count, x, [](BlockQ4_1& block, const float* from) {
    uint8_t q[kBlock];
    quantize_range(from, 15, block.d, block.m, q);
    pack_int4(q, block.qs);
  });
}

void encode_q5_0(const float* x, int64_t count, uint8_t* data) {
  for_blocks<BlockQ5_0>(data, count, x, [](BlockQ5_0& block, const float* from) {
    uint8_t q[kBlock];
    quantize_symmetric(from, 16, block.d, q);
    pack_int4(q, block.qs);
    pack_fifth_bits(q, block.qh);
  });
}

void encode_q5_1(const float* x, int64_t count, uint8_t* data) {
  for_blocks<BlockQ5_1>(data, count, x, [](BlockQ5_1& block, const float* from) {
    uint8_t q[kBlock];
    quantize_range(from, 31, block.d, block.m, q);
    pack_int4(q, block.qs);
    pack_fifth_bits(q, block.qh);
  });
}

}  // namespace nd
