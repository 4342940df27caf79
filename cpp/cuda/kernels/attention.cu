// Attention that never writes its matrix of weights (Dao et al. 2022): a block has 64 queries of one head and
// goes through the keys with a running maximum and sum of each query's row.
#include "cuda/kernels/device.h"
#include "cuda/kernels/softmax.h"

namespace nd::cuda {

/// Rows [first, first + Rows) of a head, columns [column, column + Columns), to shared memory; zeros beyond
/// `length` rows and `width` columns.
template <int Rows, int Columns, int Pitch>
DEVICE void load_tile(half* to, const half* from, int64_t ld, int first, int length, int column, int width,
                      bool aligned) {
  constexpr int Chunks = Columns / 8;
  for (int index = threadIdx.x; index < Rows * Chunks; index += kAttentionThreads) {
    const int row = index / Chunks, chunk = index % Chunks, left = width - column - chunk * 8;
    const bool valid = first + row < length && left > 0;
    half* target = to + row * Pitch + chunk * 8;
    const half* source = valid ? from + (first + row) * ld + column + chunk * 8 : from;
    if (aligned && left >= 8) {
      cp_async16(target, source, valid);
      continue;
    }
    for (int i = 0; i < 8; ++i) target[i] = valid && i < left ? source[i] : __float2half_rn(0.0f);
  }
}

template <int Rows, int Columns>
DEVICE void set_zero(float (&x)[Rows][Columns][4]) {
#pragma unroll
  for (int m = 0; m < Rows; ++m)
#pragma unroll
    for (int n = 0; n < Columns; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) x[m][n][i] = 0;
}

/// Tiles of 16 columns of k, as b operands, from rows [0, N · 8) of a tile in shared memory.
template <int N, int Pitch>
DEVICE void load_keys(uint32_t (&b)[N][2], const half* tile, int k, int lane) {
  uint32_t loaded[N / 2][4];
  const void* rows[N / 2];
#pragma unroll
  for (int n = 0; n < N / 2; ++n)
    rows[n] = tile + (n * 16 + lane % 8 + lane / 16 * 8) * Pitch + k * 16 + lane / 8 % 2 * 8;
  ldmatrix_x4(loaded, rows);
#pragma unroll
  for (int n = 0; n < N; ++n) b[n][0] = loaded[n / 2][n % 2 * 2], b[n][1] = loaded[n / 2][n % 2 * 2 + 1];
}

/// The same from 16 rows (keys) of columns [0, N · 8): values are multiplied over their rows.
template <int N, int Pitch>
DEVICE void load_values(uint32_t (&b)[N][2], const half* tile, int k, int lane) {
  uint32_t loaded[N / 2][4];
  const void* rows[N / 2];
#pragma unroll
  for (int n = 0; n < N / 2; ++n)
    rows[n] = tile + (k * 16 + lane % 8 + lane / 8 % 2 * 8) * Pitch + n * 16 + lane / 16 * 8;
  ldmatrix_x4_trans(loaded, rows);
#pragma unroll
  for (int n = 0; n < N; ++n) b[n][0] = loaded[n / 2][n % 2 * 2], b[n][1] = loaded[n / 2][n % 2 * 2 + 1];
}

/// Heads of up to Dim elements. A warp has Rows · 16 queries, a block four times as many.
template <int Dim, int Keys, int Rows>
DEVICE void attention(const AttentionArgs& p) {
  constexpr int Pitch = Dim + 8, K = Dim / 16, Tiles = Dim / 8, Queries = 64 * Rows;
  struct Shared {
    half q[Queries * Pitch], k[2][Keys * Pitch], v[2][Keys * Pitch];
  };
  Shared& s = shared_memory<Shared>();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, first = blockIdx.x * Queries;
  const int head = blockIdx.y * p.head_dim, image = blockIdx.z;
  const half* keys = p.keys[image] + head;
  const int length = p.causal ? min(p.k_length, first + Queries) : p.k_length;
  const int steps = (length + Keys - 1) / Keys;
  const bool aligned = p.aligned != 0;
  const auto load = [&](int step) {
    load_tile<Keys, Dim, Pitch>(s.k[step % 2], keys, p.ldk, step * Keys, p.k_length, 0, p.head_dim, aligned);
    load_tile<Keys, Dim, Pitch>(s.v[step % 2], keys + p.v_offset, p.ldk, step * Keys, p.k_length, 0,
                                p.head_dim, aligned);
    cp_async_commit();
  };
  load_tile<Queries, Dim, Pitch>(s.q, p.q + image * p.q_image + head, p.ldq, first, p.q_length, 0, p.head_dim,
                                 aligned);
  load(0);

  float sum[Rows][Tiles][4];
  set_zero(sum);
  RowState state[Rows];
#pragma unroll
  for (int m = 0; m < Rows; ++m) state[m].begin();
  const int row = warp * Rows * 16;  // the warp's first one in the block
  for (int step = 0; step < steps; ++step) {
    if (step + 1 < steps)
      load(step + 1);
    else
      cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    float scores[Rows][Keys / 8][4];
    set_zero(scores);
#pragma unroll
    for (int k = 0; k < K; ++k) {
      uint32_t a[Rows][4], b[Keys / 8][2];
      const void* rows_a[Rows];
#pragma unroll
      for (int m = 0; m < Rows; ++m)
        rows_a[m] = s.q + (row + m * 16 + lane % 16) * Pitch + k * 16 + lane / 16 * 8;
      ldmatrix_x4(a, rows_a);
      load_keys<Keys / 8, Pitch>(b, s.k[step % 2], k, lane);
      mma_f16(scores, a, b);
    }
    // Most steps have keys for all queries.
    const int end = (step + 1) * Keys;
    const bool masked = end > p.k_length || (p.causal && end > first);
#pragma unroll
    for (int m = 0; m < Rows; ++m) {
      const int last = p.causal ? first + row + m * 16 + lane / 4 : p.k_length - 1;
      if (masked) mask(scores[m], step * Keys + lane % 4 * 2, last, last + (p.causal ? 8 : 0), p.k_length);
      weigh(scores[m], sum[m], state[m], p.scale);
    }
#pragma unroll
    for (int k = 0; k < Keys / 16; ++k) {
      uint32_t a[Rows][4], b[Tiles][2];
#pragma unroll
      for (int m = 0; m < Rows; ++m) pack_weights(a[m], scores[m], k);
      load_values<Tiles, Pitch>(b, s.v[step % 2], k, lane);
      mma_f16(sum, a, b);
    }
    __syncthreads();  // the next step but one fills these tiles
  }
#pragma unroll
  for (int m = 0; m < Rows; ++m) {
    finish_sums(state[m]);
    write_rows(p, sum[m], state[m], p.out + image * p.out_image + head, first + row + m * 16, 0, lane);
  }
}

/// Heads of any size: scores are summed over pieces of the head, and a block writes a slice of the output's
/// columns. Each slice computes the scores again, which an autoencoder's one attention can afford.
DEVICE void attention_wide(const AttentionArgs& p) {
  constexpr int Pitch = kWideChunk + 8, ValuePitch = kWideSlice + 8, Tiles = kWideSlice / 8;
  struct Shared {
    half q[2][kAttentionQueries * Pitch], k[2][kWideKeys * Pitch], v[kWideKeys * ValuePitch];
  };
  Shared& s = shared_memory<Shared>();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, first = blockIdx.x * kAttentionQueries;
  const int head = blockIdx.y * p.head_dim, image = blockIdx.z / p.slices,
            slice = blockIdx.z % p.slices * kWideSlice;
  const half *q = p.q + image * p.q_image + head, *keys = p.keys[image] + head;
  const int length = p.causal ? min(p.k_length, first + kAttentionQueries) : p.k_length;
  const int chunks = (p.head_dim + kWideChunk - 1) / kWideChunk;
  const int steps = (length + kWideKeys - 1) / kWideKeys * chunks;
  const bool aligned = p.aligned != 0;
  // Step i: piece i % chunks of the head, for keys from i / chunks · kWideKeys on.
  const auto load = [&](int step) {
    const int column = step % chunks * kWideChunk;
    load_tile<kAttentionQueries, kWideChunk, Pitch>(s.q[step % 2], q, p.ldq, first, p.q_length, column,
                                                    p.head_dim, aligned);
    load_tile<kWideKeys, kWideChunk, Pitch>(s.k[step % 2], keys, p.ldk, step / chunks * kWideKeys, p.k_length,
                                            column, p.head_dim, aligned);
  };
  load(0);
  cp_async_commit();

  float sum[1][Tiles][4], scores[1][kWideKeys / 8][4];
  set_zero(sum);
  set_zero(scores);
  RowState state;
  state.begin();
  const int row = first + warp * 16 + lane / 4;
  for (int step = 0; step < steps; ++step) {
    const int key = step / chunks * kWideKeys;
    if (step % chunks == 0)
      load_tile<kWideKeys, kWideSlice, ValuePitch>(s.v, keys + p.v_offset, p.ldk, key, p.k_length, slice,
                                                   p.head_dim, aligned);
    cp_async_commit();
    if (step + 1 < steps) load(step + 1);
    cp_async_commit();
    const bool weighs = step % chunks == chunks - 1;
    // The values came with the head's first piece; they are needed with its last one.
    if (weighs)
      cp_async_wait<1>();
    else
      cp_async_wait<2>();
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kWideChunk / 16; ++k) {
      uint32_t a[1][4], b[kWideKeys / 8][2];
      const void* rows_a[1] = {s.q[step % 2] + (warp * 16 + lane % 16) * Pitch + k * 16 + lane / 16 * 8};
      ldmatrix_x4(a, rows_a);
      load_keys<kWideKeys / 8, Pitch>(b, s.k[step % 2], k, lane);
      mma_f16(scores, a, b);
    }
    if (weighs) {
      const int end = key + kWideKeys, last = p.causal ? row : p.k_length - 1;
      if (end > p.k_length || (p.causal && end > first))
        mask(scores[0], key + lane % 4 * 2, last, last + (p.causal ? 8 : 0), p.k_length);
      weigh(scores[0], sum[0], state, p.scale);
#pragma unroll
      for (int k = 0; k < kWideKeys / 16; ++k) {
        uint32_t a[1][4], b[Tiles][2];
        pack_weights(a[0], scores[0], k);
        load_values<Tiles, ValuePitch>(b, s.v, k, lane);
        mma_f16(sum, a, b);
      }
      set_zero(scores);
    }
    __syncthreads();
  }
  finish_sums(state);
  write_rows(p, sum[0], state, p.out + image * p.out_image + head, first + warp * 16, slice, lane);
}

}  // namespace nd::cuda

ND_KERNEL(attention_48, AttentionArgs, nd::cuda::kAttentionThreads, 3, nd::cuda::attention<48, 64, 1>)
ND_KERNEL(attention_64, AttentionArgs, nd::cuda::kAttentionThreads, 3, nd::cuda::attention<64, 64, 1>)
ND_KERNEL(attention_80, AttentionArgs, nd::cuda::kAttentionThreads, 2, nd::cuda::attention<80, 64, 1>)
ND_KERNEL(attention_128, AttentionArgs, nd::cuda::kAttentionThreads, 2, nd::cuda::attention<128, 32, 1>)
ND_KERNEL(attention_160, AttentionArgs, nd::cuda::kAttentionThreads, 2, nd::cuda::attention<160, 32, 1>)
ND_KERNEL(attention_48_long, AttentionArgs, nd::cuda::kAttentionThreads, 2, nd::cuda::attention<48, 64, 2>)
ND_KERNEL(attention_wide, AttentionArgs, nd::cuda::kAttentionThreads, 2, nd::cuda::attention_wide)
