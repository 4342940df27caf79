// Encoders of q6_k, q5_k, q4_k, q3_k and q2_k: each sub-block's scale (and min) by least squares, then the
// super-block's factors for them, then the levels that fit the stored scales and mins.
#include <algorithm>

#include "weights/formats/codecs.h"
#include "weights/formats/half.h"
#include "weights/formats/k_search.h"

namespace nd {

namespace {

/// The half nearest to x, as the decoder will read it.
float stored_half(float x) {
  return half_to_float(float_to_half(x));
}

/// What is stored of a super-block of S sub-blocks of N with levels 0…top.
template <int N, int S>
struct Offset {
  float d = 0.0f, dmin = 0.0f;
  uint8_t scales[S] = {}, mins[S] = {};
  uint8_t q[kSuperBlock] = {};
};

/// Chooses the levels for the stored scales and mins; returns the squared error.
template <int N, int S>
float assign(const float* x, int top, Offset<N, S>& block) {
  float error = 0.0f;
  for (int j = 0; j < S; ++j) {
    const float scale = block.d * static_cast<float>(block.scales[j]);
    const float min = block.dmin * static_cast<float>(block.mins[j]), factor = inverse(scale);
    const Levels<N> q(x + N * j, factor, min * factor, 0.0f, static_cast<float>(top));
    error += squared_error<N>(x + N * j, q, scale, min);
    for (int i = 0; i < N; ++i) block.q[N * j + i] = static_cast<uint8_t>(static_cast<int32_t>(q[i]));
  }
  return error;
}

/// The d and dmin that fit the levels, scales and mins of the block best.
template <int N, int S>
void refine(const float* x, Offset<N, S>& block) {
  // Normal equations of x ≈ d·a − dmin·b, a = scale·q, b = min.
  float aa = 0.0f, ab = 0.0f, bb = 0.0f, ax = 0.0f, bx = 0.0f;
  for (int j = 0; j < S; ++j) {
    Vec sum{};
    for (int i = 0; i < N; i += 4) sum += load(x + N * j + i);
    const WeightedSums m = weighted_sums<N>(x + N * j, Levels<N>(block.q + N * j));
    const float scale = static_cast<float>(block.scales[j]), min = static_cast<float>(block.mins[j]);
    aa += scale * scale * m.qq;
    ab += scale * min * m.q;
    bb += min * min * static_cast<float>(N);
    ax += scale * m.qx;
    bx += min * total(sum);
  }
  const float determinant = aa * bb - ab * ab;
  if (determinant > 1e-6f * aa * bb) {
    block.d = stored_half((ax * bb - bx * ab) / determinant);
    block.dmin = stored_half((ax * ab - bx * aa) / determinant);
  } else if (aa > 0.0f) {
    block.d = stored_half(ax / aa);
  }
}

/// `limit`: the largest scale and min that can be stored.
template <int N, int S>
Offset<N, S> fit_offset(const float* x, int top, int limit) {
  ScaleMin fits[S];
  float scale = 0.0f, min = 0.0f;
  for (int j = 0; j < S; ++j) {
    fits[j] = fit_scale_min<N>(x + N * j, top);
    scale = std::max(scale, fits[j].scale);
    min = std::max(min, fits[j].min);
  }
  Offset<N, S> block;
  block.d = stored_half(scale / static_cast<float>(limit));
  block.dmin = stored_half(min / static_cast<float>(limit));
  const float per_scale = inverse(block.d), per_min = inverse(block.dmin);
  for (int j = 0; j < S; ++j) {
    block.scales[j] = static_cast<uint8_t>(level(fits[j].scale * per_scale, 0, limit));
    block.mins[j] = static_cast<uint8_t>(level(fits[j].min * per_min, 0, limit));
  }
  float error = assign(x, top, block);
  for (int round = 0; round < 2; ++round) {
    Offset<N, S> better = block;
    refine(x, better);
    const float better_error = assign(x, top, better);
    if (!(better_error < error)) break;
    block = better;
    error = better_error;
  }
  return block;
}

/// A super-block of sub-blocks of 16 with levels −zero…zero−1 and signed scales.
struct Symmetric {
  float d = 0.0f;
  int8_t scales[kSuperBlock / 16] = {};
  int8_t q[kSuperBlock] = {};
};

float assign(const float* x, int zero, Symmetric& block) {
  float error = 0.0f;
  for (int j = 0; j < kSuperBlock / 16; ++j) {
    const float scale = block.d * static_cast<float>(block.scales[j]);
    const Levels<16> q(x + 16 * j, inverse(scale), 0.0f, static_cast<float>(-zero),
                       static_cast<float>(zero - 1));
    error += squared_error<16>(x + 16 * j, q, scale, 0.0f);
    for (int i = 0; i < 16; ++i) block.q[16 * j + i] = static_cast<int8_t>(static_cast<int32_t>(q[i]));
  }
  return error;
}

void refine(const float* x, Symmetric& block) {
  float aa = 0.0f, ax = 0.0f;
  for (int j = 0; j < kSuperBlock / 16; ++j) {
    const WeightedSums m = weighted_sums<16>(x + 16 * j, Levels<16>(block.q + 16 * j));
    const float scale = static_cast<float>(block.scales[j]);
    aa += scale * scale * m.qq;
    ax += scale * m.qx;
  }
  if (aa > 0.0f) block.d = stored_half(ax / aa);
}

/// Scales from −limit to limit − 1.
Symmetric fit_symmetric(const float* x, int zero, int limit) {
  float fits[kSuperBlock / 16], extreme = 0.0f;
  for (int j = 0; j < kSuperBlock / 16; ++j) {
    fits[j] = fit_scale<16>(x + 16 * j, zero);
    if (std::max(fits[j], -fits[j]) > std::max(extreme, -extreme)) extreme = fits[j];
  }
  Symmetric block;
  block.d = stored_half(extreme / static_cast<float>(-limit));
  const float factor = inverse(block.d);
  for (int j = 0; j < kSuperBlock / 16; ++j)
    block.scales[j] = static_cast<int8_t>(level(fits[j] * factor, -limit, limit - 1));
  float error = assign(x, zero, block);
  for (int round = 0; round < 2; ++round) {
    Symmetric better = block;
    refine(x, better);
    const float better_error = assign(x, zero, better);
    if (!(better_error < error)) break;
    block = better;
    error = better_error;
  }
  return block;
}

/// Two bits of each element, in the order of q2_k and q3_k.
template <class Level>
void pack_pairs(Level pair, uint8_t (&qs)[kSuperBlock / 4]) {
  for (int n = 0; n < 2; ++n)
    for (int l = 0; l < 32; ++l) {
      int byte = 0;
      for (int j = 0; j < 4; ++j) byte |= (pair(128 * n + 32 * j + l) & 3) << 2 * j;
      qs[32 * n + l] = static_cast<uint8_t>(byte);
    }
}

void pack_int4(const uint8_t (&q)[kSuperBlock], uint8_t (&qs)[kSuperBlock / 2]) {
  for (int c = 0; c < 4; ++c)
    for (int l = 0; l < 32; ++l)
      qs[32 * c + l] = static_cast<uint8_t>((q[64 * c + l] & 15) | q[64 * c + 32 + l] << 4);
}

}  // namespace

void encode_q2_k(const float* x, int64_t count, uint8_t* data) {
  for_blocks<BlockQ2K>(data, count, x, [](BlockQ2K& block, const float* from) {
    const auto fit = fit_offset<16, 16>(from, 3, 15);
    write_half(fit.d, block.d);
    write_half(fit.dmin, block.dmin);
    for (int j = 0; j < 16; ++j) block.scales[j] = static_cast<uint8_t>(fit.scales[j] | fit.mins[j] << 4);
    pack_pairs([&](int i) { return int{fit.q[i]}; }, block.qs);
  });
}

void encode_q3_k(const float* x, int64_t count, uint8_t* data) {
  for_blocks<BlockQ3K>(data, count, x, [](BlockQ3K& block, const float* from) {
    const Symmetric fit = fit_symmetric(from, 4, 32);
    write_half(fit.d, block.d);
    pack_scales(fit.scales, block.scales);
    pack_pairs([&](int i) { return fit.q[i] + 4; }, block.qs);
    for (int l = 0; l < 32; ++l) {
      int bits = 0;
      for (int run = 0; run < 8; ++run) bits |= (fit.q[32 * run + l] >= 0 ? 1 : 0) << run;
      block.hmask[l] = static_cast<uint8_t>(bits);
    }
  });
}

void encode_q4_k(const float* x, int64_t count, uint8_t* data) {
  for_blocks<BlockQ4K>(data, count, x, [](BlockQ4K& block, const float* from) {
    const auto fit = fit_offset<32, 8>(from, 15, 63);
    write_half(fit.d, block.d);
    write_half(fit.dmin, block.dmin);
    pack_scales_mins(fit.scales, fit.mins, block.scales);
    pack_int4(fit.q, block.qs);
  });
}

void encode_q5_k(const float* x, int64_t count, uint8_t* data) {
  for_blocks<BlockQ5K>(data, count, x, [](BlockQ5K& block, const float* from) {
    const auto fit = fit_offset<32, 8>(from, 31, 63);
    write_half(fit.d, block.d);
    write_half(fit.dmin, block.dmin);
    pack_scales_mins(fit.scales, fit.mins, block.scales);
    pack_int4(fit.q, block.qs);
    for (int l = 0; l < 32; ++l) {
      int bits = 0;
      for (int j = 0; j < 8; ++j) bits |= (fit.q[32 * j + l] >> 4) << j;
      block.qh[l] = static_cast<uint8_t>(bits);
    }
  });
}

void encode_q6_k(const float* x, int64_t count, uint8_t* data) {
  for_blocks<BlockQ6K>(data, count, x, [](BlockQ6K& block, const float* from) {
    const Symmetric fit = fit_symmetric(from, 32, 128);
    write_half(fit.d, block.d);
    std::copy_n(fit.scales, kSuperBlock / 16, block.scales);
    for (int n = 0; n < 2; ++n) {
      const auto at = [&](int i) { return fit.q[128 * n + i] + 32; };
      for (int l = 0; l < 64; ++l)
        block.ql[64 * n + l] = static_cast<uint8_t>((at(l) & 15) | (at(64 + l) & 15) << 4);
      for (int l = 0; l < 32; ++l) {
        int byte = 0;
        for (int j = 0; j < 4; ++j) byte |= at(32 * j + l) >> 4 << 2 * j;
        block.qh[32 * n + l] = static_cast<uint8_t>(byte);
      }
    }
  });
}

}  // namespace nd
