// Count, mean and Σ(x − mean)² of channels: how they are combined, and how the warps of a product take those
// of what they write.
#pragma once
#include "cuda/kernels/device.h"

namespace nd::cuda {

/// Of a union of samples (Chan, Golub & LeVeque 1983).
struct Moments {
  float count, mean, m2;

  DEVICE void add(float other_count, float other_mean, float other_m2) {
    if (other_count == 0) return;
    const float total = count + other_count, delta = other_mean - mean, share = other_count / total;
    mean += delta * share;
    m2 += other_m2 + delta * delta * count * share;
    count = total;
  }
  /// Of differences from an origin, which keeps the sums small where the mean is large.
  DEVICE static Moments of_sums(float count, float origin, float sum, float squares) {
    const float mean = sum / count;
    return {count, origin + mean, fmaxf(squares - sum * mean, 0.0f)};
  }
};

/// Writes those of a channel of one piece, see MomentsArgs::moments.
DEVICE void store_moments(float* moments, int64_t piece, int c, int channel, const Moments& of) {
  float* to = moments + piece * 3 * c + channel;
  to[0] = of.count, to[c] = of.mean, to[2 * c] = of.m2;
}

/// Where block `tile` of a product, whose tiles do not cross images, puts its moments.
DEVICE int64_t piece_of_tile(const ProductArgs& p, int tile, int parity) {
  const int tiles = p.moment_pieces / p.parities, image = tile / tiles;
  return static_cast<int64_t>(image) * p.moment_pieces + parity * tiles + tile % tiles;
}

/// Moments of NT · 8 columns of a warp's rows. A lane has every 32nd column.
template <int NT>
struct WarpMoments {
  static constexpr int kColumns = NT / 4;
  float count = 0, mean[kColumns] = {}, m2[kColumns] = {};

  /// Adds 16 rows in shared memory, or those of them whose bit is set.
  DEVICE void add(const float* staging, int pitch, uint32_t rows, int lane) {
    if (!rows) return;
    const int first = __ffs(static_cast<int>(rows)) - 1;
    const float added = static_cast<float>(__popc(rows)), total = count + added, share = added / total;
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      const float* from = staging + lane + 32 * j;
      const float origin = from[first * pitch];
      float sum = 0, squares = 0;
#pragma unroll
      for (int r = 0; r < 16; ++r) {
        const float d = rows >> r & 1 ? from[r * pitch] - origin : 0.0f;
        sum += d;
        squares += d * d;
      }
      const Moments of = Moments::of_sums(added, origin, sum, squares);
      const float delta = of.mean - mean[j];
      mean[j] += delta * share;
      m2[j] += of.m2 + delta * delta * count * share;
    }
    count = total;
  }
};

/// Floats of shared memory that store_block_moments() needs.
template <int NT, int WarpsM, int WarpsN>
constexpr int kBlockMomentFloats = 2 * WarpsM* WarpsN* NT * 8 + WarpsM;

/// Combines the moments of warps that have the same columns, and writes them. `thread` of WarpsM · WarpsN ·
/// 32; barrier() waits for all of them.
template <int NT, int WarpsM, int WarpsN, class Barrier>
DEVICE void store_block_moments(const ProductArgs& p, const WarpMoments<NT>& mine, float* shared, int thread,
                                int o0, int64_t piece, const Barrier& barrier) {
  constexpr int Columns = WarpsN * NT * 8;
  const int warp = thread / 32, lane = thread % 32, warp_m = warp / WarpsN;
  float2* parts = reinterpret_cast<float2*>(shared);
  float* counts = shared + 2 * WarpsM * Columns;
#pragma unroll
  for (int j = 0; j < WarpMoments<NT>::kColumns; ++j)
    parts[warp_m * Columns + warp % WarpsN * NT * 8 + lane + 32 * j] = make_float2(mine.mean[j], mine.m2[j]);
  if (warp % WarpsN == 0 && lane == 0) counts[warp_m] = mine.count;
  barrier();
  for (int column = thread; column < Columns && o0 + column < p.y_columns; column += WarpsM * WarpsN * 32) {
    Moments all{0, 0, 0};
    for (int i = 0; i < WarpsM; ++i) {
      const float2 part = parts[i * Columns + column];
      all.add(counts[i], part.x, part.y);
    }
    store_moments(p.moments, piece, p.y_columns, o0 + column, all);
  }
}

}  // namespace nd::cuda
