// Linear layers and convolutions as one implicit GEMM. A block computes a tile of pixels × output channels in
// steps of 32 along taps and channels; tiles of x and of the weights wait in shared memory, several steps
// ahead.
#include "cuda/kernels/device.h"
#include "cuda/kernels/epilogue.h"

namespace nd::cuda {

/// Rows of 32 fp16 values lie 64 bytes apart; chunks of 8 are exchanged so that ldmatrix has no bank
/// conflicts.
DEVICE int tile_at(int row, int chunk) {
  return row * kProductK + ((chunk ^ ((row >> 1) & 3)) << 3);
}

constexpr int kOutside = -(1 << 30);

/// Where a thread's rows of x begin, and which of its 8 channels comes next.
template <int Rows>
struct PixelRows {
  int offset[Rows];      // of tap (0, 0) from x, in elements; may lie outside of the image
  int y[Rows], x[Rows];  // of tap (0, 0); y is far outside where the row is none of the product's
  int chunk, dy, dx;     // of channels; of the tap

  /// chunk may have passed the last one of the tap; of several taps where `Few` (fewer chunks than a step
  /// has).
  template <bool Few>
  DEVICE void settle(int chunks_per_tap, int kernel_w) {
    do {
      const bool passed = chunk >= chunks_per_tap;
      chunk -= passed ? chunks_per_tap : 0;
      dx += passed ? 1 : 0;
      const bool row = dx == kernel_w;
      dx = row ? 0 : dx;
      dy += row ? 1 : 0;
    } while (Few && chunk >= chunks_per_tap);
  }
};

/// 8 channels of which only `count` exist, from any address.
DEVICE void load_channels(half* shared, const half* from, int count) {
  uint32_t packed[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const __half2 two = __floats2half2_rn(2 * i < count ? __half2float(from[2 * i]) : 0.0f,
                                          2 * i + 1 < count ? __half2float(from[2 * i + 1]) : 0.0f);
    packed[i] = *reinterpret_cast<const uint32_t*>(&two);
  }
  *reinterpret_cast<uint4*>(shared) = make_uint4(packed[0], packed[1], packed[2], packed[3]);
}

/// Pointwise: a 1×1 kernel with stride 1, so that pixels need no coordinates. Aligned: c is a multiple of 8
/// and, for other kernels, at least 32.
template <int BM, int BN, int WarpsM, int WarpsN, int Stages, bool Pointwise, bool Aligned>
DEVICE void product(const ProductArgs& p) {
  constexpr int Threads = WarpsM * WarpsN * 32, RowsPerPass = Threads / 4;
  constexpr int PassesA = BM / RowsPerPass, PassesB = BN / RowsPerPass;
  constexpr int MT = BM / WarpsM / 16, NT = BN / WarpsN / 8;
  struct Shared {
    half a[Stages][BM * kProductK], b[Stages][BN * kProductK];
  };
  Shared& s = shared_memory<Shared>();
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const int tiles = (p.span + BM - 1) / BM, first_m = static_cast<int>(blockIdx.x) / tiles * p.span;
  const int m0 = first_m + static_cast<int>(blockIdx.x) % tiles * BM, m_end = min(p.m, first_m + p.span);
  const int o0 = blockIdx.y * BN;
  const int parity = blockIdx.z / p.splits, split = blockIdx.z % p.splits;
  const int row = thread / 4, chunks_per_tap = (p.c + 7) / 8;
  const int steps_total = (p.chunks + 3) / 4, first_step = split * p.split_steps,
            end_step = min(first_step + p.split_steps, steps_total);
  const int warp_m = warp / WarpsN * MT * 16, warp_n = warp % WarpsN * NT * 8;
  const half* weights = p.weights + static_cast<int64_t>(parity) * p.o * p.weights_chunks * 8;

  float sum[MT][NT][4];
#pragma unroll
  for (int m = 0; m < MT; ++m)
#pragma unroll
    for (int n = 0; n < NT; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[m][n][i] = 0;

  // The channels of x, then those of a second tensor. A step has channels of one, and the copies of one end
  // before those of the other begin: an inner loop for both would need more instructions in each step.
  const int tensors = Pointwise && p.second ? 2 : 1, first_c = p.c - p.second_c;
#pragma unroll 1
  for (int tensor = 0; tensor < tensors; ++tensor) {
    const int border = first_c / kProductK, begin = tensor ? max(first_step, border) : first_step,
              end = tensor + 1 < tensors ? min(end_step, border) : end_step;
    if (begin >= end) continue;
    const half* x = tensor ? p.second : p.x;
    const int end_chunk = tensor + 1 < tensors ? first_c / 8 : p.chunks;
    int b_chunk = begin * 4 + thread % 4;  // of the weights' row
    PixelRows<PassesA> rows;
    rows.chunk = b_chunk, rows.dy = rows.dx = 0;
    if (!Pointwise) rows.template settle<true>(chunks_per_tap, p.kernel_w);
#pragma unroll
    for (int i = 0; i < PassesA; ++i) {
      const int m = m0 + row + RowsPerPass * i;
      if (Pointwise) {
        rows.y[i] = m < m_end ? 0 : kOutside;
        rows.offset[i] = tensor ? m * p.second_c - first_c : m * first_c;
      } else {
        const int image = m / p.grid_pixels, pixel = m - image * p.grid_pixels, gy = pixel / p.grid_w;
        rows.y[i] = gy * p.stride - p.pad_y + parity / 2;
        rows.x[i] = (pixel - gy * p.grid_w) * p.stride - p.pad_x + parity % 2;
        rows.offset[i] = ((image * p.h + rows.y[i]) * p.w + rows.x[i]) * p.c;
        if (m >= m_end) rows.y[i] = kOutside;
      }
    }

    const auto load = [&](int stage) {
      const int channel = rows.chunk * 8, tap = Pointwise ? 0 : (rows.dy * p.w + rows.dx) * p.c;
#pragma unroll
      for (int i = 0; i < PassesA; ++i) {
        bool valid = b_chunk < end_chunk;
        if (Pointwise)
          valid = valid && rows.y[i] == 0;
        else
          valid = valid && static_cast<unsigned>(rows.y[i] + rows.dy) < static_cast<unsigned>(p.h) &&
                  static_cast<unsigned>(rows.x[i] + rows.dx) < static_cast<unsigned>(p.w);
        half* to = &s.a[stage][tile_at(row + RowsPerPass * i, thread % 4)];
        const half* from = x + (valid ? rows.offset[i] + tap + channel : 0);
        if (Aligned)
          cp_async16(to, from, valid);
        else
          load_channels(to, from, valid ? min(8, p.c - channel) : 0);
      }
#pragma unroll
      for (int i = 0; i < PassesB; ++i) {
        const int o = o0 + row + RowsPerPass * i;
        const bool valid = o < p.o && b_chunk < end_chunk;
        cp_async16(&s.b[stage][tile_at(row + RowsPerPass * i, thread % 4)],
                   weights + static_cast<int64_t>(valid ? o * p.weights_chunks + b_chunk : 0) * 8, valid);
      }
      b_chunk += 4, rows.chunk += 4;
      if (!Pointwise) rows.template settle<!Aligned>(chunks_per_tap, p.kernel_w);
    };

#pragma unroll
    for (int i = 0; i < Stages - 1; ++i) {
      load(i);
      cp_async_commit();
    }
    int stage = 0, next = Stages - 1;
    for (int step = begin; step < end; ++step) {
      cp_async_wait<Stages - 2>();
      __syncthreads();  // all threads' copies are there, and the stage that is filled next has been read
      const half *a = s.a[stage], *b = s.b[stage];
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        uint32_t fa[MT][4], loaded[NT / 2][4], fb[NT][2];
        const void *rows_a[MT], *rows_b[NT / 2];
#pragma unroll
        for (int m = 0; m < MT; ++m) rows_a[m] = a + tile_at(warp_m + m * 16 + lane % 16, k * 2 + lane / 16);
#pragma unroll
        for (int n = 0; n < NT / 2; ++n)
          rows_b[n] = b + tile_at(warp_n + n * 16 + lane % 8 + lane / 16 * 8, k * 2 + lane / 8 % 2);
        ldmatrix_x4(fa, rows_a);
        ldmatrix_x4(loaded, rows_b);
#pragma unroll
        for (int n = 0; n < NT; ++n)
          fb[n][0] = loaded[n / 2][n % 2 * 2], fb[n][1] = loaded[n / 2][n % 2 * 2 + 1];
        if (k == 0) {
          // Behind the first fragments, so that their products hide the addresses' arithmetic; in every step,
          // as a branch would keep the two apart. What the last steps load, nothing reads.
          load(next);
          cp_async_commit();
        }
        mma_f16(sum, fa, fb);
      }
      if (++stage == Stages) stage = 0;
      if (++next == Stages) next = 0;
    }
    cp_async_wait<0>();
    __syncthreads();  // the tiles' memory is free for the second tensor's or the epilogue
  }

  static_assert(kFinishFloats<NT, WarpsM, WarpsN> * 4 <= sizeof(Shared),
                "the epilogue needs more shared memory");
  finish_block<WarpsM, WarpsN>(p, sum, reinterpret_cast<float*>(&s), m0, m_end, o0, parity, split);
}

/// v += 8 columns of a row of each split.
DEVICE void add_splits(const ProductArgs& p, float (&v)[8], int row, int column) {
  const int columns = (p.o + 7) / 8 * 8;
  for (int split = 0; split < p.splits; ++split) {
    float part[8];
    read8(p.partial + (static_cast<int64_t>(split) * p.m + row) * columns + column, part);
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] += part[i];
  }
}

/// Sums the splits of a product; a thread has 8 columns of a row (16 where GEGLU takes them together).
DEVICE void product_finish(const ProductArgs& p) {
  const int width = p.activation == ProductActivation::geglu ? 16 : 8;
  const int pieces = (p.o + 7) / 8 * 8 / width;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kFinishThreads + threadIdx.x;
  if (index >= static_cast<int64_t>(p.m) * pieces) return;
  const int row = static_cast<int>(index / pieces), column = static_cast<int>(index % pieces) * width;
  float v[8] = {}, gates[8] = {};
  add_splits(p, v, row, column);
  if (width == 8) return finish(p, v, row, column, 0);
  add_splits(p, gates, row, column + 8);
  finish_geglu(p, v, gates, row, column, 0);
}

/// The same, and the moments of what it writes. A block has a piece of one image and kMomentChannels
/// channels; a thread has 8 channels of some of the pixels.
DEVICE void product_finish_moments(const ProductArgs& p) {
  constexpr int Lanes = kFinishThreads / (kMomentChannels / 8);
  struct Shared {
    float2 parts[Lanes][kMomentChannels];
  };
  Shared& s = shared_memory<Shared>();
  const int chunk = threadIdx.x % 8 * 8, lane = threadIdx.x / 8,
            column = blockIdx.y * kMomentChannels + chunk;
  const int rows = (p.grid_pixels + p.moment_pieces - 1) / p.moment_pieces;
  const int image = blockIdx.z * p.grid_pixels, first = image + blockIdx.x * rows,
            last = min(first + rows, image + p.grid_pixels);
  float origin[8] = {}, sum[8] = {}, squares[8] = {};
  const int begin = first + lane;
  for (int row = begin; row < last && column < p.o; row += Lanes) {
    float v[8] = {};
    add_splits(p, v, row, column);
    finish(p, v, row, column, 0);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float x = as_stored(v[i]);
      if (row == begin) origin[i] = x;
      const float d = x - origin[i];
      sum[i] += d;
      squares[i] += d * d;
    }
  }
  const auto rows_of = [&](int of) {
    return static_cast<float>((max(last - first - of, 0) + Lanes - 1) / Lanes);
  };
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const Moments of = Moments::of_sums(fmaxf(rows_of(lane), 1.0f), origin[i], sum[i], squares[i]);
    s.parts[lane][chunk + i] = make_float2(of.mean, of.m2);
  }
  __syncthreads();
  const int mine = blockIdx.y * kMomentChannels + threadIdx.x;
  if (threadIdx.x >= kMomentChannels || mine >= p.y_columns) return;
  Moments all{0, 0, 0};
  for (int i = 0; i < Lanes; ++i) all.add(rows_of(i), s.parts[i][threadIdx.x].x, s.parts[i][threadIdx.x].y);
  store_moments(p.moments, static_cast<int64_t>(blockIdx.z) * p.moment_pieces + blockIdx.x, p.y_columns, mine,
                all);
}

}  // namespace nd::cuda

ND_KERNEL(product_narrow, ProductArgs, 128, 3, nd::cuda::product<128, 64, 2, 2, 3, false, true>)
ND_KERNEL(product_small, ProductArgs, 128, 4, nd::cuda::product<64, 64, 2, 2, 4, false, true>)
ND_KERNEL(product_large_pointwise, ProductArgs, 256, 2, nd::cuda::product<128, 128, 2, 4, 3, true, true>)
ND_KERNEL(product_narrow_pointwise, ProductArgs, 128, 3, nd::cuda::product<128, 64, 2, 2, 3, true, true>)
ND_KERNEL(product_small_pointwise, ProductArgs, 128, 4, nd::cuda::product<64, 64, 2, 2, 4, true, true>)
ND_KERNEL(product_square, ProductArgs, 128, 2, nd::cuda::product<128, 128, 2, 2, 3, false, true>)
ND_KERNEL(product_square_pointwise, ProductArgs, 128, 2, nd::cuda::product<128, 128, 2, 2, 3, true, true>)
ND_KERNEL(product_unaligned, ProductArgs, 128, 4, nd::cuda::product<64, 64, 2, 2, 4, false, false>)
ND_KERNEL(product_finish, ProductArgs, nd::cuda::kFinishThreads, 1, nd::cuda::product_finish)
ND_KERNEL(product_finish_moments, ProductArgs, nd::cuda::kFinishThreads, 4, nd::cuda::product_finish_moments)
