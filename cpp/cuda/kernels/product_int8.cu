// The products of product.cu with int8: weights of q8_0 whose codes lie apart from their scales, and
// activations that quantize_rows made. Each 32 products are one s32 sum by tensor cores; two of them make a
// step, each scaled by its weights, and both by the pixel.
#include "cuda/kernels/epilogue.h"

namespace nd::cuda {

/// Rows of 64 bytes; chunks of 16 are exchanged so that ldmatrix has no bank conflicts. Rows that are a
/// multiple of 8 further have the same order, and a chunk that is 2 further lies 32 bytes away by exclusive
/// or.
DEVICE int int8_tile_at(int row, int chunk) {
  return row * kInt8K + ((chunk ^ ((row >> 1) & 3)) << 4);
}

/// The stored row of the weights that is row `row` of the product, or −1: with GEGLU eight values and their
/// eight gates take turns.
DEVICE int stored_weights(const ProductArgs& p, int row) {
  if (p.activation != ProductActivation::geglu) return row < p.o ? row : -1;
  const int value = row / 16 * 8 + row % 8;
  if (value >= p.y_columns) return -1;
  return row / 8 % 2 ? p.y_columns + value : value;
}

/// Block `k` of the two that a word has halves of.
DEVICE float half_of(uint32_t word, int k) {
  const float2 both = __half22float2(*reinterpret_cast<const __half2*>(&word));
  return k ? both.y : both.x;
}

template <int BM, int BN, int WarpsM, int WarpsN, int Stages>
DEVICE void product_int8(const Int8ProductArgs& args) {
  constexpr int Threads = WarpsM * WarpsN * 32, RowsPerPass = Threads / 4;
  constexpr int PassesA = BM / RowsPerPass, PassesB = BN / RowsPerPass;
  constexpr int MT = BM / WarpsM / 16, NT = BN / WarpsN / 8;
  struct Shared {
    signed char a[Stages][BM * kInt8K], b[Stages][BN * kInt8K];
    float x_scales[Stages][BM];
    uint32_t weight_scales[Stages][BN];
  };
  Shared& s = shared_memory<Shared>();
  const ProductArgs& p = args.product;
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const int tiles = (p.span + BM - 1) / BM, first_m = static_cast<int>(blockIdx.x) / tiles * p.span;
  const int m0 = first_m + static_cast<int>(blockIdx.x) % tiles * BM, m_end = min(p.m, first_m + p.span);
  const int o0 = blockIdx.y * BN, split = blockIdx.z;
  const int row = thread / 4, chunk = thread % 4;
  const int steps_per_tap = p.c / kInt8K, taps = p.chunks / (p.c / 8), steps_total = steps_per_tap * taps;
  const int first_step = split * p.split_steps, end_step = min(first_step + p.split_steps, steps_total);

  // Where the thread's chunks of x begin at tap (0, 0), and which taps lie in the image, by a bit each.
  int offset[PassesA], weights[PassesB];
  uint32_t inside[PassesA];
#pragma unroll
  for (int i = 0; i < PassesA; ++i) {
    const int m = m0 + row + RowsPerPass * i;
    const int image = m / p.grid_pixels, pixel = m - image * p.grid_pixels, gy = pixel / p.grid_w;
    const int y = gy * p.stride - p.pad_y, x = (pixel - gy * p.grid_w) * p.stride - p.pad_x;
    offset[i] = ((image * p.h + y) * p.w + x) * p.c + chunk * 16;
    inside[i] = 0;
    for (int tap = 0; tap < taps && m < m_end; ++tap) {
      const int dy = tap / p.kernel_w, dx = tap - dy * p.kernel_w;
      const bool in_image = static_cast<unsigned>(y + dy) < static_cast<unsigned>(p.h) &&
                            static_cast<unsigned>(x + dx) < static_cast<unsigned>(p.w);
      inside[i] |= in_image ? 1u << tap : 0;
    }
  }
#pragma unroll
  for (int i = 0; i < PassesB; ++i) {
    const int stored = stored_weights(p, o0 + row + RowsPerPass * i);
    weights[i] = stored < 0 ? -1 : stored * steps_total * kInt8K + chunk * 16;
  }

  // What is loaded next.
  const int to = int8_tile_at(row, chunk);
  int step = first_step, tap = first_step / steps_per_tap, piece = first_step - tap * steps_per_tap;
  int dx = tap % p.kernel_w, from = (tap / p.kernel_w * p.w + dx) * p.c + piece * kInt8K;
  const auto load = [&](int stage) {
    const bool more = step < end_step;
#pragma unroll
    for (int i = 0; i < PassesA; ++i) {
      const bool valid = more && (inside[i] >> tap & 1);
      const uint32_t at = valid ? static_cast<uint32_t>(offset[i] + from) : 0;
      cp_async16(&s.a[stage][to + RowsPerPass * kInt8K * i], args.x + at, valid);
      cp_async4_if(chunk == 0, &s.x_scales[stage][row + RowsPerPass * i], args.x_scales + at / kInt8K, valid);
    }
#pragma unroll
    for (int i = 0; i < PassesB; ++i) {
      const bool valid = more && weights[i] >= 0;
      const uint32_t at = valid ? static_cast<uint32_t>(weights[i] + step * kInt8K) : 0;
      cp_async16(&s.b[stage][to + RowsPerPass * kInt8K * i], args.weights + at, valid);
      cp_async4_if(chunk == 1, &s.weight_scales[stage][row + RowsPerPass * i],
                   args.weight_scales + at / kInt8K, valid);
    }
    // The channels of the next tap follow those of this one, but at the end of the kernel's row.
    ++step, from += kInt8K;
    if (++piece == steps_per_tap) {
      piece = 0, ++tap;
      if (++dx == p.kernel_w) dx = 0, from += (p.w - p.kernel_w) * p.c;
    }
  };

  float sum[MT][NT][4];
#pragma unroll
  for (int m = 0; m < MT; ++m)
#pragma unroll
    for (int n = 0; n < NT; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[m][n][i] = 0;

#pragma unroll
  for (int i = 0; i < Stages - 1; ++i) {
    load(i);
    cp_async_commit();
  }
  const int warp_m = warp / WarpsN * MT * 16, warp_n = warp % WarpsN * NT * 8;
  const int a_at = int8_tile_at(warp_m + lane % 16, lane / 16);
  const int b_at = int8_tile_at(warp_n + lane % 8 + lane / 16 * 8, lane / 8 % 2);
  const int32_t start[4] = {kInt8Origin, kInt8Origin, kInt8Origin, kInt8Origin};
  int stage = 0, next = Stages - 1;
  for (int done = first_step; done < end_step; ++done) {
    cp_async_wait<Stages - 2>();
    __syncthreads();  // all threads' copies are there, and the stage that is filled next has been read
    uint32_t fb[2][NT][2];
    float scales[2][NT][2];
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      uint32_t loaded[NT / 2][4];
      const void* rows_b[NT / 2];
#pragma unroll
      for (int n = 0; n < NT / 2; ++n) rows_b[n] = s.b[stage] + (b_at ^ k * 32) + n * 16 * kInt8K;
      ldmatrix_x4(loaded, rows_b);
#pragma unroll
      for (int n = 0; n < NT; ++n)
        fb[k][n][0] = loaded[n / 2][n % 2 * 2], fb[k][n][1] = loaded[n / 2][n % 2 * 2 + 1];
    }
    // Behind the first fragments, as in product.cu.
    load(next);
    cp_async_commit();
#pragma unroll
    for (int n = 0; n < NT; ++n) {
      const uint2 two =
          *reinterpret_cast<const uint2*>(&s.weight_scales[stage][warp_n + n * 8 + lane % 4 * 2]);
#pragma unroll
      for (int k = 0; k < 2; ++k) scales[k][n][0] = half_of(two.x, k), scales[k][n][1] = half_of(two.y, k);
    }
#pragma unroll
    for (int m = 0; m < MT; ++m) {
      float step_sum[NT][4] = {};
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        int32_t part[NT][4];
        uint32_t fa[4];
        ldmatrix_x4(fa, s.a[stage] + (a_at ^ k * 32) + m * 16 * kInt8K);
        mma_s8(part, fa, fb[k], start);
#pragma unroll
        for (int n = 0; n < NT; ++n)
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const float scaled =
                (__int_as_float(part[n][i]) - __int_as_float(kInt8Origin)) * scales[k][n][i % 2];
            step_sum[n][i] = k ? step_sum[n][i] + scaled : scaled;
          }
      }
      const float* rows = &s.x_scales[stage][warp_m + m * 16 + lane / 4];
      const float upper = rows[0], lower = rows[8];
#pragma unroll
      for (int n = 0; n < NT; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[m][n][i] += step_sum[n][i] * (i < 2 ? upper : lower);
    }
    if (++stage == Stages) stage = 0;
    if (++next == Stages) next = 0;
  }
  cp_async_wait<0>();
  __syncthreads();  // the tiles' memory is free for the epilogue

  static_assert(kFinishFloats<NT, WarpsM, WarpsN> * 4 <= sizeof(Shared),
                "the epilogue needs more shared memory");
  finish_block<WarpsM, WarpsN>(p, sum, reinterpret_cast<float*>(&s), m0, m_end, o0, 0, split);
}

}  // namespace nd::cuda

ND_KERNEL(product_int8_small, Int8ProductArgs, 128, 3, nd::cuda::product_int8<64, 64, 2, 2, 3>)
ND_KERNEL(product_int8_narrow, Int8ProductArgs, 128, 2, nd::cuda::product_int8<128, 64, 2, 2, 3>)
ND_KERNEL(product_int8_large, Int8ProductArgs, 256, 1, nd::cuda::product_int8<128, 128, 2, 4, 3>)
