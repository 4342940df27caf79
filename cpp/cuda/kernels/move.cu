// Moving activations: concatenation, between planes and rows, to and from stored images, lookups.
#include "cuda/kernels/device.h"
#include "cuda/kernels/epilogue.h"

namespace nd::cuda {

DEVICE int64_t thread_number() {
  return static_cast<int64_t>(blockIdx.x) * kMoveThreads + threadIdx.x;
}

/// A thread has 8 channels of a row, or one where channels do not come in eights.
DEVICE void concat(const ConcatArgs& p) {
  const int c = p.a_channels + p.b_channels;
  const bool vector = p.a_channels % 8 == 0 && p.b_channels % 8 == 0;
  const int step = vector ? 8 : 1, pieces = c / step;
  const int64_t index = thread_number(), row = index / pieces;
  if (row >= p.rows) return;
  const int channel = static_cast<int>(index % pieces) * step;
  const half* from = channel < p.a_channels ? p.a + row * p.a_channels + channel
                                            : p.b + row * p.b_channels + channel - p.a_channels;
  half* to = p.y + row * c + channel;
  if (vector)
    *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
  else
    *to = *from;
}

DEVICE float added(float x, float y, float factor, const AddArgs& p) {
  const float product = factor == 0.0f ? 0.0f : factor * x;
  return p.replaces ? product : y + product;
}

DEVICE void add_rows(const AddArgs& p) {
  const int64_t index = thread_number();
  if (index >= p.count) return;
  const float factor = p.mask ? p.factor * __half2float(p.mask[index / p.row % p.pixels]) : p.factor;
  if (!p.vector) {
    const float y = p.replaces ? 0.0f : __half2float(p.y[index]);
    p.y[index] = __float2half_rn(in_range(added(__half2float(p.x[index]), y, factor, p)));
    return;
  }
  float x[8], y[8] = {};
  load8(p.x + 8 * index, x);
  if (!p.replaces) load8(p.y + 8 * index, y);
#pragma unroll
  for (int i = 0; i < 8; ++i) y[i] = added(x[i], y[i], factor, p);
  store8(p.y + 8 * index, y);
}

DEVICE void average_pool(const PoolArgs& p) {
  const int64_t index = thread_number();
  if (index >= p.count) return;
  const int out_h = (p.h + 1) / 2, out_w = (p.w + 1) / 2;
  const int channel = static_cast<int>(index % p.c);
  const int64_t pixel = index / p.c, row = pixel / out_w;
  const int x = static_cast<int>(pixel % out_w), y = static_cast<int>(row % out_h);
  const int rows = 2 * y + 1 < p.h ? 2 : 1, columns = 2 * x + 1 < p.w ? 2 : 1;
  const half* from = p.x + ((row / out_h * p.h + 2 * y) * p.w + 2 * x) * p.c + channel;
  float sum = 0;
  for (int dy = 0; dy < rows; ++dy)
    for (int dx = 0; dx < columns; ++dx)
      sum += __half2float(from[(static_cast<int64_t>(dy) * p.w + dx) * p.c]);
  p.y[index] = __float2half_rn(sum / static_cast<float>(rows * columns));
}

/// Pixel i of a side of `size`, reflected at its ends.
DEVICE int reflected(int i, int size) {
  const int inside = i < 0 ? -i : i >= size ? 2 * (size - 1) - i : i;
  return min(max(inside, 0), size - 1);
}

/// The filter (1 3 3 1) / 8: four taps of a side to halve it, and of twice the weight two to double it.
DEVICE void resample(const ResampleArgs& p) {
  const int64_t index = thread_number();
  if (index >= p.count) return;
  const int out_h = p.twice ? 2 * p.h : p.h / 2, out_w = p.twice ? 2 * p.w : p.w / 2;
  const int64_t pixel = index / p.c, row = pixel / out_w;
  const int x = static_cast<int>(pixel % out_w), y = static_cast<int>(row % out_h);
  const half* image = p.x + row / out_h * p.h * p.w * p.c + index % p.c;
  const int taps = p.twice ? 2 : 4;
  const int first_x = p.twice ? (x + 1) / 2 - 1 : 2 * x - 1, first_y = p.twice ? (y + 1) / 2 - 1 : 2 * y - 1;
  const auto weight = [&](int at, int tap) {
    if (p.twice) return at % 2 == tap ? 0.25f : 0.75f;
    return tap == 0 || tap == 3 ? 0.125f : 0.375f;
  };
  float sum = 0;
  for (int dy = 0; dy < taps; ++dy)
    for (int dx = 0; dx < taps; ++dx) {
      const int64_t from =
          static_cast<int64_t>(reflected(first_y + dy, p.h)) * p.w + reflected(first_x + dx, p.w);
      sum += weight(y, dy) * weight(x, dx) * __half2float(image[from * p.c]);
    }
  p.y[index] = __float2half_rn(sum);
}

/// Tiles of 32 channels × 32 pixels turn in shared memory, so that both sides are read and written along
/// rows.
template <bool ToRows>
DEVICE void turn(const PlanarArgs& p) {
  struct Shared {
    float tile[kTransposeTile][kTransposeTile + 1];
  };
  Shared& s = shared_memory<Shared>();
  const int column = threadIdx.x % kTransposeTile, first = threadIdx.x / kTransposeTile;
  const int pixel0 = blockIdx.x * kTransposeTile, c0 = blockIdx.y * kTransposeTile;
  float* planes = p.planes + static_cast<int64_t>(blockIdx.z) * p.c * p.pixels;
  half* rows = p.rows + static_cast<int64_t>(blockIdx.z) * p.pitch * p.pixels;
  constexpr int Step = kTransposeThreads / kTransposeTile;
  for (int i = first; i < kTransposeTile; i += Step) {
    if (ToRows && c0 + i < p.c && pixel0 + column < p.pixels)
      s.tile[i][column] = planes[static_cast<int64_t>(c0 + i) * p.pixels + pixel0 + column];
    if (!ToRows && pixel0 + i < p.pixels && c0 + column < p.c)
      s.tile[i][column] = __half2float(rows[static_cast<int64_t>(pixel0 + i) * p.pitch + c0 + column]);
  }
  __syncthreads();
  for (int i = first; i < kTransposeTile; i += Step) {
    if (ToRows && pixel0 + i < p.pixels && c0 + column < p.c)
      rows[static_cast<int64_t>(pixel0 + i) * p.pitch + c0 + column] =
          __float2half_rn(in_range(s.tile[column][i] * p.scale + p.shift));
    if (!ToRows && c0 + i < p.c && pixel0 + column < p.pixels)
      planes[static_cast<int64_t>(c0 + i) * p.pixels + pixel0 + column] =
          s.tile[column][i] * p.scale + p.shift;
  }
}

template <bool Store>
DEVICE void stored_rows(const StoreArgs& p) {
  const int64_t index = thread_number(), row = index / p.count, column = index % p.count;
  if (row >= p.rows) return;
  unsigned char* at = p.stored + row * p.pitch;
  half* x = p.x + index;
  if (Store && p.fp16)
    reinterpret_cast<half*>(at)[column] = *x;
  else if (Store)
    reinterpret_cast<float*>(at)[column] = __half2float(*x);
  else if (p.fp16)
    *x = reinterpret_cast<const half*>(at)[column];
  else
    *x = __float2half_rn(in_range(reinterpret_cast<const float*>(at)[column]));
}

DEVICE void gather(const GatherArgs& p) {
  const int64_t index = thread_number(), row = index / p.width;
  if (row >= p.count) return;
  const half from = p.table[static_cast<int64_t>(p.ids[row]) * p.width + index % p.width];
  half* to = p.y + index;
  *to = p.add ? __float2half_rn(__half2float(*to) + __half2float(from)) : from;
}

/// A warp has one pixel; each lane looks at every 32nd code.
DEVICE void nearest(const NearestArgs& p) {
  const int pixel = static_cast<int>(thread_number() / 32), lane = threadIdx.x % 32;
  if (pixel >= p.count) return;
  const half* x = p.x + static_cast<int64_t>(pixel) * p.width;
  float best = INFINITY;
  int code = 0;
  for (int i = lane; i < p.size; i += 32) {
    const float* e = p.table + static_cast<int64_t>(i) * p.width;
    float distance = 0;
    for (int j = 0; j < p.width; ++j) {
      const float d = __half2float(x[j]) - e[j];
      distance += d * d;
    }
    if (distance < best) best = distance, code = i;
  }
#pragma unroll
  for (int d = 16; d; d /= 2) {
    const float other = __shfl_xor_sync(~0u, best, d);
    const int other_code = __shfl_xor_sync(~0u, code, d);
    if (other < best || (other == best && other_code < code)) best = other, code = other_code;
  }
  if (lane == 0) p.codes[pixel] = code;
}

}  // namespace nd::cuda

ND_KERNEL(concat, ConcatArgs, nd::cuda::kMoveThreads, 2, nd::cuda::concat)
ND_KERNEL(add_rows, AddArgs, nd::cuda::kMoveThreads, 2, nd::cuda::add_rows)
ND_KERNEL(average_pool, PoolArgs, nd::cuda::kMoveThreads, 2, nd::cuda::average_pool)
ND_KERNEL(resample, ResampleArgs, nd::cuda::kMoveThreads, 2, nd::cuda::resample)
ND_KERNEL(planar_to_rows, PlanarArgs, nd::cuda::kTransposeThreads, 2, nd::cuda::turn<true>)
ND_KERNEL(rows_to_planar, PlanarArgs, nd::cuda::kTransposeThreads, 2, nd::cuda::turn<false>)
ND_KERNEL(store_rows, StoreArgs, nd::cuda::kMoveThreads, 2, nd::cuda::stored_rows<true>)
ND_KERNEL(load_rows, StoreArgs, nd::cuda::kMoveThreads, 2, nd::cuda::stored_rows<false>)
ND_KERNEL(gather, GatherArgs, nd::cuda::kMoveThreads, 2, nd::cuda::gather)
ND_KERNEL(nearest, NearestArgs, nd::cuda::kMoveThreads, 2, nd::cuda::nearest)
