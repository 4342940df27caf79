// Token merging (Bolya & Hoffman 2023): which source is most like which destination, which of them are
// merged, the means of what is merged, and the way back. See nd::cpu::TokenMerge for the choice of
// destinations and for ties.
#include "cuda/kernels/device.h"
#include "cuda/kernels/epilogue.h"

namespace nd::cuda {

DEVICE bool is_destination(int token, int h, int w) {
  const int y = token / w, x = token % w;
  return y % 2 == 0 && x % 2 == 0 && y + 1 < h && x + 1 < w;
}

DEVICE int destination_token(int destination, int w) {
  const int columns = w / 2;
  return destination / columns * 2 * w + destination % columns * 2;
}

/// Sources are numbered by windows, then along the last column and the last row of odd sides.
DEVICE int source_token(int source, int h, int w) {
  const int windows = h / 2 * (w / 2);
  if (source < 3 * windows) {
    const int place = source % 3 + 1;
    return destination_token(source / 3, w) + place / 2 * w + place % 2;
  }
  int rest = source - 3 * windows;
  if (w % 2) {
    if (rest < h) return rest * w + w - 1;
    rest -= h;
  }
  return (h - 1) * w + rest;
}

/// A warp has a token.
DEVICE void merge_lengths(const MergeLengthsArgs& p) {
  const int row = blockIdx.x * (kMoveThreads / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= p.rows) return;
  const half* x = p.x + static_cast<int64_t>(row) * p.c;
  float sum = 0;
  for (int i = lane; i < p.c; i += 32) {
    const float v = __half2float(x[i]);
    sum += v * v;
  }
#pragma unroll
  for (int d = 16; d; d /= 2) sum += __shfl_xor_sync(~0u, sum, d);
  const float inverse = 1.0f / sqrtf(sum);
  if (lane == 0) p.inverse[row] = inverse < INFINITY ? inverse : 0.0f;
}

/// Rows of 64 channels of tokens to shared memory, zeros where there are none.
template <class TokenOf>
DEVICE void load_tokens(half* to, const MergeMatchArgs& p, const half* x, int column,
                        const TokenOf& token_of) {
  constexpr int Chunks = kMergeChannels / 8;
  for (int index = threadIdx.x; index < kMergeTile * Chunks; index += kMergeThreads) {
    const int row = index / Chunks, chunk = index % Chunks, left = p.c - column - chunk * 8;
    const int token = left > 0 ? token_of(row) : -1;
    half* target = to + row * kMergePitch + chunk * 8;
    const half* source = token >= 0 ? x + static_cast<int64_t>(token) * p.c + column + chunk * 8 : x;
    if (p.c % 8 == 0) {
      cp_async16(target, source, token >= 0);
      continue;
    }
    for (int i = 0; i < 8; ++i) target[i] = token >= 0 && i < left ? source[i] : __float2half_rn(0.0f);
  }
}

/// A block has 64 sources of an image and goes through all destinations, 64 at a time; a warp has 16 sources.
DEVICE void merge_match(const MergeMatchArgs& p) {
  constexpr int Tiles = kMergeTile / 8;
  struct Shared {
    half sources[2][kMergeTile * kMergePitch], destinations[2][kMergeTile * kMergePitch];
  };
  Shared& s = shared_memory<Shared>();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, first = blockIdx.x * kMergeTile;
  const int64_t image = static_cast<int64_t>(blockIdx.y) * p.h * p.w;
  const half* x = p.x + image * p.c;
  const int destinations = p.h / 2 * (p.w / 2), sources = p.h * p.w - destinations;
  const int pieces = (p.c + kMergeChannels - 1) / kMergeChannels;
  const int steps = (destinations + kMergeTile - 1) / kMergeTile * pieces;
  // Step i: piece i % pieces of the channels, for destinations from i / pieces · kMergeTile on.
  const auto load = [&](int step) {
    const int column = step % pieces * kMergeChannels, begin = step / pieces * kMergeTile;
    load_tokens(s.sources[step % 2], p, x, column,
                [&](int row) { return first + row < sources ? source_token(first + row, p.h, p.w) : -1; });
    load_tokens(s.destinations[step % 2], p, x, column, [&](int row) {
      return begin + row < destinations ? destination_token(begin + row, p.w) : -1;
    });
    cp_async_commit();
  };
  load(0);

  float dot[1][Tiles][4], highest[2] = {-INFINITY, -INFINITY};
  int best[2] = {0, 0};
#pragma unroll
  for (int n = 0; n < Tiles; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) dot[0][n][i] = 0;
  for (int step = 0; step < steps; ++step) {
    if (step + 1 < steps)
      load(step + 1);
    else
      cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kMergeChannels / 16; ++k) {
      uint32_t a[1][4], loaded[Tiles / 2][4], b[Tiles][2];
      const void *rows_a[1], *rows_b[Tiles / 2];
      rows_a[0] = s.sources[step % 2] + (warp * 16 + lane % 16) * kMergePitch + k * 16 + lane / 16 * 8;
#pragma unroll
      for (int n = 0; n < Tiles / 2; ++n)
        rows_b[n] = s.destinations[step % 2] + (n * 16 + lane % 8 + lane / 16 * 8) * kMergePitch + k * 16 +
                    lane / 8 % 2 * 8;
      ldmatrix_x4(a, rows_a);
      ldmatrix_x4(loaded, rows_b);
#pragma unroll
      for (int n = 0; n < Tiles; ++n)
        b[n][0] = loaded[n / 2][n % 2 * 2], b[n][1] = loaded[n / 2][n % 2 * 2 + 1];
      mma_f16(dot, a, b);
    }
    if (step % pieces == pieces - 1) {
      const int begin = step / pieces * kMergeTile + lane % 4 * 2;
#pragma unroll
      for (int n = 0; n < Tiles; ++n)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int destination = begin + n * 8 + i;
          if (destination >= destinations) continue;
          const float inverse = p.inverse[image + destination_token(destination, p.w)];
#pragma unroll
          for (int part = 0; part < 2; ++part) {
            const float similar = dot[0][n][part * 2 + i] * inverse;
            // Destinations come in their order, so the first of equals stays. NaN is not above anything.
            if (similar > highest[part]) highest[part] = similar, best[part] = destination;
          }
        }
#pragma unroll
      for (int n = 0; n < Tiles; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) dot[0][n][i] = 0;
    }
    __syncthreads();  // the next step but one fills these tiles
  }
#pragma unroll
  for (int part = 0; part < 2; ++part) {
#pragma unroll
    for (int d = 1; d < 4; d *= 2) {
      const float other = __shfl_xor_sync(~0u, highest[part], d);
      const int other_best = __shfl_xor_sync(~0u, best[part], d);
      if (other > highest[part] || (other == highest[part] && other_best < best[part]))
        highest[part] = other, best[part] = other_best;
    }
    const int source = first + warp * 16 + part * 8 + lane / 4;
    if (lane % 4 != 0 || source >= sources) continue;
    const int64_t token = image + source_token(source, p.h, p.w);
    p.similarity[token] = highest[part] * p.inverse[token];
    p.best[token] = destination_token(best[part], p.w);
  }
}

/// In the order of similarities; NaN is the lowest, and −0 is 0.
DEVICE uint32_t order_key(float similarity) {
  if (similarity != similarity) return 0;
  const uint32_t bits = __float_as_uint(similarity + 0.0f);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}

/// The sum over the threads before this one.
DEVICE int sum_before(int value, int (&warps)[kMergeAssignThreads / 32]) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int sum = value;
#pragma unroll
  for (int d = 1; d < 32; d *= 2) {
    const int other = __shfl_sync(~0u, sum, lane - d);
    if (lane >= d) sum += other;
  }
  __syncthreads();  // the sums of the call before have been read
  if (lane == 31) warps[warp] = sum;
  __syncthreads();
  int before = sum - value;
  for (int i = 0; i < warp; ++i) before += warps[i];
  return before;
}

/// A block has one image: finds the key of the last source that is merged, digit by digit, then numbers the
/// tokens that are left.
DEVICE void merge_assign(const MergeAssignArgs& p) {
  struct Shared {
    int bins[kMergeAssignThreads], warps[kMergeAssignThreads / 32];
    int digit, above;
  };
  static_assert(sizeof(Shared) == kMergeAssignSharedBytes, "as the host has it");
  Shared& s = shared_memory<Shared>();
  const int thread = threadIdx.x, pixels = p.h * p.w;
  const int64_t image = static_cast<int64_t>(blockIdx.x) * pixels;
  const float* similarity = p.similarity + image;
  const int32_t* best = p.best + image;
  int32_t *row = p.row + image, *kept = p.kept + static_cast<int64_t>(blockIdx.x) * (pixels - p.merged);

  uint32_t key = 0;       // its digits so far
  int wanted = p.merged;  // of those with these digits
  for (int shift = 24; shift >= 0; shift -= 8) {
    const uint32_t known = shift == 24 ? 0u : ~0u << (shift + 8);
    s.bins[thread] = 0;
    __syncthreads();
    for (int token = thread; token < pixels; token += kMergeAssignThreads) {
      if (is_destination(token, p.h, p.w)) continue;
      const uint32_t mine = order_key(similarity[token]);
      if ((mine & known) == key) atomicAdd(&s.bins[mine >> shift & 255], 1);
    }
    __syncthreads();
    const int digit = kMergeAssignThreads - 1 - thread, count = s.bins[digit],
              above = sum_before(count, s.warps);
    if (above < wanted && wanted <= above + count) s.digit = digit, s.above = above;
    __syncthreads();
    key |= static_cast<uint32_t>(s.digit) << shift;
    wanted -= s.above;
  }

  // A thread has neighbouring tokens. `wanted` of those with this key are merged, the first ones.
  const int each = (pixels + kMergeAssignThreads - 1) / kMergeAssignThreads;
  const int first = min(pixels, thread * each), last = min(pixels, first + each);
  int higher = 0, equal = 0;
  for (int token = first; token < last; ++token) {
    if (is_destination(token, p.h, p.w)) continue;
    const uint32_t mine = order_key(similarity[token]);
    higher += mine > key ? 1 : 0;
    equal += mine == key ? 1 : 0;
  }
  int left = max(0, min(equal, wanted - sum_before(equal, s.warps)));
  int next = sum_before(last - first - higher - left, s.warps);
  for (int token = first; token < last; ++token) {
    bool merges = false;
    if (!is_destination(token, p.h, p.w)) {
      const uint32_t mine = order_key(similarity[token]);
      merges = mine > key || (mine == key && left > 0);
      if (mine == key) --left;
    }
    row[token] = merges ? -1 : next;
    if (!merges) kept[next++] = token;
  }
  __syncthreads();
  for (int token = first; token < last; ++token)
    if (row[token] < 0) row[token] = row[best[token]];
}

/// A warp has 256 channels of a row of the result: the mean of all tokens that became part of it, in their
/// order.
DEVICE void merge_means(const MergeMeansArgs& p) {
  const int row = blockIdx.x * (kMoveThreads / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  const int channel = blockIdx.y * 256 + lane * 8, pixels = p.h * p.w;
  if (row >= p.tokens) return;
  const half* x = p.x + static_cast<int64_t>(blockIdx.z) * pixels * p.c;
  const int32_t* rows = p.row + static_cast<int64_t>(blockIdx.z) * pixels;
  const int64_t mine = static_cast<int64_t>(blockIdx.z) * p.tokens + row;
  const bool vector = p.c % 8 == 0;
  float sum[8] = {};
  int count = 0;
  const auto add = [&](int token) {
    ++count;
    const half* from = x + static_cast<int64_t>(token) * p.c + channel;
    if (vector && channel < p.c) {
      float v[8];
      load8(from, v);
#pragma unroll
      for (int i = 0; i < 8; ++i) sum[i] += v[i];
    } else {
#pragma unroll
      for (int i = 0; i < 8; ++i)
        if (channel + i < p.c) sum[i] += __half2float(from[i]);
    }
  };
  const int own = p.kept[mine];
  if (!is_destination(own, p.h, p.w)) {
    add(own);
  } else {
    for (int begin = 0; begin < pixels; begin += 32) {
      const int token = begin + lane;
      uint32_t members = __ballot_sync(~0u, token < pixels && rows[token] == row);
      for (; members; members &= members - 1) add(begin + __ffs(static_cast<int>(members)) - 1);
    }
  }
  const float share = 1.0f / static_cast<float>(count);
#pragma unroll
  for (int i = 0; i < 8; ++i) sum[i] *= share;
  half* to = p.y + mine * p.c + channel;
  if (vector) {
    if (channel < p.c) store8(to, sum);
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i)
    if (channel + i < p.c) to[i] = __float2half_rn(in_range(sum[i]));
}

/// A thread has 8 channels of a token, or one where channels do not come in eights.
DEVICE void unmerge(const UnmergeArgs& p) {
  const int step = p.c % 8 == 0 ? 8 : 1, pieces = p.c / step;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kMoveThreads + threadIdx.x, token = index / pieces;
  if (token >= p.count) return;
  const int channel = static_cast<int>(index % pieces) * step;
  const half* from = p.merged + (token / p.pixels * p.tokens + p.row[token]) * p.c + channel;
  half* to = p.x + token * p.c + channel;
  if (step == 1) {
    *to = __float2half_rn(in_range(__half2float(*to) + __half2float(*from)));
    return;
  }
  float x[8], y[8];
  load8(from, x);
  load8(to, y);
#pragma unroll
  for (int i = 0; i < 8; ++i) y[i] += x[i];
  store8(to, y);
}

}  // namespace nd::cuda

ND_KERNEL(merge_lengths, MergeLengthsArgs, nd::cuda::kMoveThreads, 2, nd::cuda::merge_lengths)
ND_KERNEL(merge_match, MergeMatchArgs, nd::cuda::kMergeThreads, 3, nd::cuda::merge_match)
ND_KERNEL(merge_assign, MergeAssignArgs, nd::cuda::kMergeAssignThreads, 1, nd::cuda::merge_assign)
ND_KERNEL(merge_means, MergeMeansArgs, nd::cuda::kMoveThreads, 2, nd::cuda::merge_means)
ND_KERNEL(unmerge, UnmergeArgs, nd::cuda::kMoveThreads, 2, nd::cuda::unmerge)
