// Group normalization (Wu & He 2018) in three steps, moments of channels, which products take as well,
// factors of groups, and their application; the last two also in one kernel. Layer normalization (Ba et al.
// 2016), one warp a row.
#include "cuda/kernels/device.h"
#include "cuda/kernels/epilogue.h"
#include "cuda/kernels/quantize.h"

namespace nd::cuda {

/// A block takes kMomentRows pixels of kMomentChannels channels: a thread has 8 channels of every 32nd pixel.
/// Sums are of differences from the piece's first pixel, which keeps them small where the mean is large.
DEVICE void channel_moments(const MomentsArgs& p) {
  struct Shared {
    float2 sums[32][kMomentChannels];
  };
  Shared& s = shared_memory<Shared>();
  const int column = threadIdx.x % 8 * 8, lane = threadIdx.x / 8,
            channel = blockIdx.y * kMomentChannels + column;
  const int first = blockIdx.x * kMomentRows, image = blockIdx.z, last = min(p.pixels, first + kMomentRows);
  const half* x = p.x + static_cast<int64_t>(image) * p.pixels * p.c;
  const int count = min(8, p.c - channel);
  const bool vector = p.c % 8 == 0;
  const auto read = [&](int pixel, float(&v)[8]) {
    const half* from = x + static_cast<int64_t>(pixel) * p.c + channel;
    if (vector) return load8(from, v);
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = i < count ? __half2float(from[i]) : 0.0f;
  };
  if (count > 0) {
    float origin[8], sum[8] = {}, squares[8] = {};
    read(first, origin);
    for (int pixel = first + lane; pixel < last; pixel += 32) {
      float v[8];
      read(pixel, v);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const float d = v[i] - origin[i];
        sum[i] += d;
        squares[i] += d * d;
      }
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) s.sums[lane][column + i] = make_float2(sum[i], squares[i]);
  }
  __syncthreads();
  const int mine = blockIdx.y * kMomentChannels + threadIdx.x;
  if (threadIdx.x >= kMomentChannels || mine >= p.c) return;
  float sum = 0, squares = 0;
  for (int i = 0; i < 32; ++i) sum += s.sums[i][threadIdx.x].x, squares += s.sums[i][threadIdx.x].y;
  const float origin = __half2float(x[static_cast<int64_t>(first) * p.c + mine]);
  store_moments(p.moments, static_cast<int64_t>(image) * p.pieces + blockIdx.x, p.c, mine,
                Moments::of_sums(static_cast<float>(last - first), origin, sum, squares));
}

DEVICE void merge_moments(const MergeMomentsArgs& p) {
  const int channel = blockIdx.x * kMoveThreads + threadIdx.x;
  if (channel >= p.c) return;
  float* total = p.total + channel;
  Moments moments{0, 0, 0};
  if (!p.first) moments = {total[0], total[p.c], total[2 * p.c]};
  for (int piece = 0; piece < p.pieces; ++piece) {
    const float* from = p.moments + static_cast<int64_t>(piece) * 3 * p.c + channel;
    moments.add(from[0], from[p.c], from[2 * p.c]);
  }
  total[0] = moments.count, total[p.c] = moments.mean, total[2 * p.c] = moments.m2;
}

DEVICE Moments across_warp(Moments moments) {
#pragma unroll
  for (int d = 16; d; d /= 2) {
    const float count = __shfl_xor_sync(~0u, moments.count, d), mean = __shfl_xor_sync(~0u, moments.mean, d),
                m2 = __shfl_xor_sync(~0u, moments.m2, d);
    moments.add(count, mean, m2);
  }
  return moments;
}

/// Adds the moments of those of channels [first, first + width) of an image that `in` has, of which channel
/// `begin` is its first one. A thread takes every `threads`-th.
DEVICE void add_channels(Moments& moments, const NormInput& in, int begin, int image, int first, int width,
                         int thread, int threads) {
  const int low = max(first - begin, 0), count = min(first + width - begin, in.c) - low;
  if (count <= 0) return;
  for (int i = thread; i < in.pieces * count; i += threads) {
    const float* from =
        in.moments + (static_cast<int64_t>(image) * in.pieces + i / count) * 3 * in.c + low + i % count;
    moments.add(from[0], from[in.c], from[2 * in.c]);
  }
}
DEVICE Moments group_moments(const NormInputs& x, int image, int first, int width, int thread, int threads) {
  Moments moments{0, 0, 0};
  add_channels(moments, x.first, 0, image, first, width, thread, threads);
  add_channels(moments, x.second, x.first.c, image, first, width, thread, threads);
  return moments;
}

/// Where a channel of a pixel of either input lies.
DEVICE const half* element_of(const NormInputs& x, int64_t pixel, int channel) {
  if (channel < x.first.c) return x.first.x + pixel * x.first.c + channel;
  return x.second.x + pixel * x.second.c + channel - x.first.c;
}

DEVICE void normalize8(const half* from, float (&v)[8], const float* scales, const float* shifts, bool silu) {
  float scale[8], shift[8];
  load8(from, v);
  read8(scales, scale);
  read8(shifts, shift);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    v[i] = v[i] * scale[i] + shift[i];
    if (silu) v[i] *= sigmoid(v[i]);
  }
}
/// The int8 of what store8() would write, so that it does not matter which kernel quantizes.
DEVICE void store_halves_as_int8(const Int8Rows& to, int64_t chunk, float (&v)[8], bool exists) {
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] = as_stored(v[i]);
  store_int8(to, chunk, v, exists);
}
DEVICE void normalize(const half* from, half* to, float scale, float shift, bool silu) {
  float v = __half2float(*from) * scale + shift;
  if (silu) v *= sigmoid(v);
  *to = __float2half_rn(in_range(v));
}

/// A block has one group of one image.
DEVICE void group_factors(const GroupFactorsArgs& p) {
  struct Shared {
    Moments warps[kFactorThreads / 32];
  };
  Shared& s = shared_memory<Shared>();
  const int width = p.c / p.groups, first = blockIdx.x * width, image = blockIdx.y;
  Moments moments = across_warp(group_moments(p.x, image, first, width, threadIdx.x, kFactorThreads));
  if (threadIdx.x % 32 == 0) s.warps[threadIdx.x / 32] = moments;
  __syncthreads();
  moments = {0, 0, 0};
  for (int i = 0; i < kFactorThreads / 32; ++i) moments.add(s.warps[i].count, s.warps[i].mean, s.warps[i].m2);
  const float inverse = 1.0f / sqrtf(moments.m2 / moments.count + p.eps);
  float* scale = p.factors + static_cast<int64_t>(image) * 2 * p.c;
  for (int i = first + threadIdx.x; i < first + width; i += kFactorThreads) {
    const float g = p.gamma[i] * inverse;
    scale[i] = g;
    scale[p.c + i] = p.beta[i] - moments.mean * g;
  }
}

/// A thread has 8 elements, of one pixel where c is a multiple of 8.
DEVICE int64_t affine_begin() {
  return (static_cast<int64_t>(blockIdx.x) * kMoveThreads + threadIdx.x) * 8;
}
DEVICE void affine8(const AffineArgs& p, int64_t begin, float (&v)[8]) {
  const int64_t pixel = begin / p.c;
  const int channel = static_cast<int>(begin - pixel * p.c);
  const float* factors = p.factors + begin / p.image * 2 * p.c + channel;
  normalize8(element_of(p.x, pixel, channel), v, factors, factors + p.c, p.silu);
}
DEVICE void affine_int8(const AffineArgs& p) {
  const int64_t begin = affine_begin();
  const bool exists = begin < p.total;
  float v[8] = {};
  if (exists) affine8(p, begin, v);
  store_halves_as_int8(p.int8, begin / 8, v, exists);
}
DEVICE void affine(const AffineArgs& p) {
  const int64_t begin = affine_begin();
  if (begin >= p.total) return;
  if (p.c % 8 == 0 && p.x.first.c % 8 == 0) {
    float v[8];
    affine8(p, begin, v);
    return store8(p.y + begin, v);
  }
  for (int64_t i = begin; i < begin + 8 && i < p.total; ++i) {
    const int channel = static_cast<int>(i % p.c);
    const float* factors = p.factors + i / p.image * 2 * p.c + channel;
    normalize(element_of(p.x, i / p.c, channel), p.y + i, factors[0], factors[p.c], p.silu);
  }
}

template <bool Int8>
DEVICE void group_norm(const GroupNormArgs& p) {
  struct Shared {
    float scale[kNormChannels], shift[kNormChannels];
  };
  Shared& s = shared_memory<Shared>();
  const int width = p.c / p.groups, first = blockIdx.x * p.slice, end = min(first + p.slice, p.c);
  const int image = blockIdx.z, lane = threadIdx.x % 32;
  // Groups of which the slice has channels.
  for (int group = first / width + threadIdx.x / 32; group * width < end; group += kNormThreads / 32) {
    const int from = group * width;
    const Moments moments = across_warp(group_moments(p.x, image, from, width, lane, 32));
    const float inverse = 1.0f / sqrtf(moments.m2 / moments.count + p.eps);
    for (int i = max(from, first) + lane; i < min(from + width, end); i += 32) {
      const float g = p.gamma[i] * inverse;
      s.scale[i - first] = g;
      s.shift[i - first] = p.beta[i] - moments.mean * g;
    }
  }
  __syncthreads();
  const bool vector = Int8 || (p.c % 8 == 0 && p.x.first.c % 8 == 0);
  const int unit = vector ? 8 : 1, chunks = (end - first) / unit;
  const int row0 = blockIdx.y * p.rows, count = min(p.rows, p.pixels - row0) * chunks;
  // All threads take as many turns, as those of a warp share scales.
  for (int begin = 0; begin < count; begin += kNormThreads) {
    const int i = begin + threadIdx.x;
    const bool exists = i < count;
    if (!Int8 && !exists) break;
    const int row = i / chunks, channel = (i - row * chunks) * unit;
    const int64_t pixel = static_cast<int64_t>(image) * p.pixels + row0 + row,
                  at = pixel * p.c + first + channel;
    if (!vector) {
      normalize(element_of(p.x, pixel, first + channel), p.y + at, s.scale[channel], s.shift[channel],
                p.silu);
      continue;
    }
    float v[8] = {};
    if (exists)
      normalize8(element_of(p.x, pixel, first + channel), v, s.scale + channel, s.shift + channel, p.silu);
    if (Int8)
      store_halves_as_int8(p.int8, at / 8, v, exists);
    else
      store8(p.y + at, v);
  }
}

/// A thread has one element.
DEVICE void modulate(const ModulateArgs& p) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kMoveThreads + threadIdx.x;
  if (i >= p.total) return;
  const int channel = static_cast<int>(i % p.c);
  const int64_t image = i / p.image;
  const float* factors = p.factors + image * 2 * p.c + channel;
  const half* modulation = p.modulations + image * p.modulation_row + channel;
  const float normed = __half2float(*element_of(p.x, i / p.c, channel)) * factors[0] + factors[p.c];
  const float v = normed * (1.0f + __half2float(modulation[0])) + __half2float(modulation[p.c]);
  p.y[i] = __float2half_rn(in_range(p.gelu ? gelu(v) : v));
}

DEVICE float across_warp(float x) {
#pragma unroll
  for (int d = 16; d; d /= 2) x += __shfl_xor_sync(~0u, x, d);
  return x;
}

template <bool Int8>
DEVICE void layer_norm(const LayerNormArgs& p) {
  const int row = blockIdx.x * (kMoveThreads / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= p.rows) return;
  const half* x = p.x + static_cast<int64_t>(row) * p.c;
  const int64_t first = static_cast<int64_t>(row) * p.c;
  const bool vector = Int8 || p.c % 8 == 0;
  const int step = vector ? 8 : 1;
  const auto read = [&](int i, float(&v)[8]) {
    if (vector)
      load8(x + i, v);
    else
      v[0] = __half2float(x[i]);
  };
  float sum = 0, squares = 0, v[8] = {};
  for (int i = lane * step; i < p.c; i += 32 * step) {
    read(i, v);
#pragma unroll
    for (int j = 0; j < 8; ++j)
      if (j < step) sum += v[j];
  }
  const float mean = across_warp(sum) / p.c;
  for (int i = lane * step; i < p.c; i += 32 * step) {
    read(i, v);
#pragma unroll
    for (int j = 0; j < 8; ++j)
      if (j < step) squares += (v[j] - mean) * (v[j] - mean);
  }
  const float scale = rsqrtf(across_warp(squares) / p.c + p.eps);
  for (int begin = 0; begin < p.c; begin += 32 * step) {
    const int i = begin + lane * step;
    const bool exists = i < p.c;
    if (!Int8 && !exists) break;
    if (exists) {
      read(i, v);
#pragma unroll
      for (int j = 0; j < 8; ++j)
        if (j < step) v[j] = (v[j] - mean) * scale * p.gamma[i + j] + p.beta[i + j];
    }
    if (Int8)
      store_halves_as_int8(p.int8, (first + i) / 8, v, exists);
    else if (vector)
      store8(p.y + first + i, v);
    else
      p.y[first + i] = __float2half_rn(in_range(v[0]));
  }
}

}  // namespace nd::cuda

ND_KERNEL(channel_moments, MomentsArgs, nd::cuda::kMomentThreads, 2, nd::cuda::channel_moments)
ND_KERNEL(merge_moments, MergeMomentsArgs, nd::cuda::kMoveThreads, 2, nd::cuda::merge_moments)
ND_KERNEL(group_factors, GroupFactorsArgs, nd::cuda::kFactorThreads, 4, nd::cuda::group_factors)
ND_KERNEL(affine, AffineArgs, nd::cuda::kMoveThreads, 2, nd::cuda::affine)
ND_KERNEL(group_norm, GroupNormArgs, nd::cuda::kNormThreads, 4, nd::cuda::group_norm<false>)
ND_KERNEL(modulate, ModulateArgs, nd::cuda::kMoveThreads, 2, nd::cuda::modulate)
ND_KERNEL(layer_norm, LayerNormArgs, nd::cuda::kMoveThreads, 2, nd::cuda::layer_norm<false>)
ND_KERNEL(affine_int8, AffineArgs, nd::cuda::kMoveThreads, 2, nd::cuda::affine_int8)
ND_KERNEL(group_norm_int8, GroupNormArgs, nd::cuda::kNormThreads, 4, nd::cuda::group_norm<true>)
ND_KERNEL(layer_norm_int8, LayerNormArgs, nd::cuda::kMoveThreads, 2, nd::cuda::layer_norm<true>)
