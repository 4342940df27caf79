// Attention that never writes its matrix of weights (Dao et al. 2022): a block has some queries of one head
// and goes through the keys with a running maximum and sum of each query's row.
#include "cuda/kernels/device.h"
#include "cuda/kernels/softmax.h"

namespace nd::cuda {

/// Rows of a head, of which the first `length` exist, to shared memory; zeros beyond these and beyond `width`
/// columns. Each thread has the same 16 bytes of some rows.
template <int Rows, int Columns, int Pitch, int Threads>
DEVICE void load_rows(half* to, const half* from, int64_t ld, int length, int width, bool aligned) {
  constexpr int Chunks = Columns / 8,
                Lanes = Chunks <= 8    ? 8
                        : Chunks <= 16 ? 16
                        : Chunks <= 32 ? 32
                                       : 64,
                Step = Threads / Lanes, Passes = Rows / Step;
  static_assert(Chunks <= Lanes && Rows % Step == 0, "whole passes");
  const int row = threadIdx.x / Lanes, chunk = threadIdx.x % Lanes, left = width - chunk * 8;
  if (chunk >= Chunks) return;
  const int rows = left > 0 ? length - row : 0;
  half* target = to + row * Pitch + chunk * 8;
  const half* source = from + row * ld + chunk * 8;
  if (aligned) {
#pragma unroll
    for (int i = 0; i < Passes; ++i)
      cp_async16(target + i * Step * Pitch, source + i * Step * ld, i * Step < rows);
    return;
  }
#pragma unroll 1
  for (int i = 0; i < Passes * 8; ++i) {
    const int pass = i / 8 * Step, element = i % 8;
    const bool valid = pass < rows && element < left;
    target[pass * Pitch + element] = valid ? source[pass * ld + element] : __float2half_rn(0.0f);
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

/// Rows · 16 rows of a tile in shared memory, columns [16k, 16k + 16), as a operands.
template <int Rows, int Pitch>
DEVICE void load_left(uint32_t (&a)[Rows][4], const half* tile, int k, int lane) {
  const void* rows[Rows];
#pragma unroll
  for (int m = 0; m < Rows; ++m) rows[m] = tile + (m * 16 + lane % 16) * Pitch + k * 16 + lane / 16 * 8;
  ldmatrix_x4(a, rows);
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

/// The same of eight columns, from `column` on.
template <int N, int Pitch>
DEVICE void load_keys_half(uint32_t (&b)[N], const half* tile, int column, int lane) {
  uint32_t loaded[N / 4][4];
  const void* rows[N / 4];
#pragma unroll
  for (int n = 0; n < N / 4; ++n) rows[n] = tile + (n * 32 + lane) * Pitch + column;
  ldmatrix_x4(loaded, rows);
#pragma unroll
  for (int n = 0; n < N; ++n) b[n] = loaded[n / 4][n % 4];
}

/// Values are multiplied over their rows: 16 rows (keys) from 16k on, columns [0, N · 8), of which N is even.
template <int N, int Pitch, int Tiles>
DEVICE void load_values(uint32_t (&b)[Tiles][2], const half* tile, int k, int lane) {
  uint32_t loaded[N / 2][4];
  const void* rows[N / 2];
#pragma unroll
  for (int n = 0; n < N / 2; ++n)
    rows[n] = tile + (k * 16 + lane % 8 + lane / 8 % 2 * 8) * Pitch + n * 16 + lane / 16 * 8;
  ldmatrix_x4_trans(loaded, rows);
#pragma unroll
  for (int n = 0; n < N; ++n) b[n][0] = loaded[n / 2][n % 2 * 2], b[n][1] = loaded[n / 2][n % 2 * 2 + 1];
}

// nvcc evaluates no functions of the host in a kernel, not even constant ones.
template <int Index>
constexpr int kPitch = kAttentionShapes[Index].pitch();
template <int Index>
constexpr int kQueries = kAttentionShapes[Index].queries();

/// Heads of up to kAttentionShapes[Index].dim elements.
template <int Index, bool Aligned>
DEVICE void attention(const AttentionArgs& p) {
  constexpr AttentionShape Shape = kAttentionShapes[Index];
  constexpr int Dim = Shape.dim, Keys = Shape.keys, Rows = Shape.rows, Pitch = kPitch<Index>, K = Dim / 16,
                Tiles = Dim / 8, Queries = kQueries<Index>, Odd = Tiles % 2;
  static_assert(Queries <= 2 * Keys && (!Odd || Rows == 2), "queries fit into a stage");
  struct Shared {
    half tiles[2][2][Keys * Pitch];  // keys and values
  };
  Shared& s = shared_memory<Shared>();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, first = blockIdx.x * Queries;
  const int head = blockIdx.y * p.head_dim, image = blockIdx.z;
  const half* keys = p.keys[image] + head;
  const int length = p.causal ? min(p.k_length, first + Queries) : p.k_length;
  const int steps = (length + Keys - 1) / Keys;
  const auto load = [&](int step) {
    const half* from = keys + static_cast<int64_t>(step) * Keys * p.ldk;
    const int left = p.k_length - step * Keys;
    load_rows<Keys, Dim, Pitch, kAttentionThreads>(s.tiles[step % 2][0], from, p.ldk, left, p.head_dim,
                                                   Aligned);
    load_rows<Keys, Dim, Pitch, kAttentionThreads>(s.tiles[step % 2][1], from + p.v_offset, p.ldk, left,
                                                   p.head_dim, Aligned);
    cp_async_commit();
  };
  // Queries stay in registers.
  half* queries = s.tiles[1][0];
  load_rows<Queries, Dim, Pitch, kAttentionThreads>(
      queries, p.q + image * p.q_image + head + static_cast<int64_t>(first) * p.ldq, p.ldq,
      p.q_length - first, p.head_dim, Aligned);
  load(0);
  cp_async_wait<0>();
  __syncthreads();
  const int row = warp * Rows * 16;  // the warp's first one in the block
  uint32_t q[K][Rows][4], q_odd[Rows][2];
#pragma unroll
  for (int k = 0; k < K; ++k) load_left<Rows, Pitch>(q[k], queries + row * Pitch, k, lane);
  if constexpr (Odd) {
    uint32_t loaded[2 * Rows];
    load_keys_half<2 * Rows, Pitch>(loaded, queries + row * Pitch, K * 16, lane);
#pragma unroll
    for (int m = 0; m < Rows; ++m) q_odd[m][0] = loaded[2 * m], q_odd[m][1] = loaded[2 * m + 1];
  }

  float sum[Rows][Tiles][4];
  set_zero(sum);
  RowState state[Rows];
#pragma unroll
  for (int m = 0; m < Rows; ++m) state[m].begin();
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<0>();
    __syncthreads();  // these tiles are there, and nobody reads the other two any more
    if (step + 1 < steps) load(step + 1);
    const half *k_tile = s.tiles[step % 2][0], *v_tile = s.tiles[step % 2][1];
    float scores[Rows][Keys / 8][4];
    set_zero(scores);
#pragma unroll
    for (int k = 0; k < K; ++k) {
      uint32_t b[Keys / 8][2];
      load_keys<Keys / 8, Pitch>(b, k_tile, k, lane);
      mma_f16(scores, q[k], b);
    }
    if constexpr (Odd) {
      uint32_t b[Keys / 8];
      load_keys_half<Keys / 8, Pitch>(b, k_tile, K * 16, lane);
      mma_f16(scores, q_odd, b);
    }
    // Most steps have keys for all queries.
    const int end = (step + 1) * Keys;
    if (end > p.k_length || (p.causal && end > first))
#pragma unroll
      for (int m = 0; m < Rows; ++m) {
        const int last = p.causal ? first + row + m * 16 + lane / 4 : p.k_length - 1;
        mask(scores[m], step * Keys + lane % 4 * 2, last, last + (p.causal ? 8 : 0), p.k_length);
      }
    float maxima[Rows][2];
    row_maxima(maxima, scores);
    raise_shifts(state, sum, maxima, p.scale);
    uint32_t odd[4];  // the last eight columns of two times 16 values
#pragma unroll
    for (int k = 0; k < Keys / 16; ++k) {
      uint32_t a[Rows][4], b[Tiles][2];
      load_values<Tiles - Odd, Pitch>(b, v_tile, k, lane);
      if constexpr (Odd) {
        if (k % 2 == 0) ldmatrix_x4_trans(odd, v_tile + (k * 16 + lane) * Pitch + Dim - 8);
        b[Tiles - 1][0] = odd[k % 2 * 2], b[Tiles - 1][1] = odd[k % 2 * 2 + 1];
      }
#pragma unroll
      for (int m = 0; m < Rows; ++m) weigh(a[m], scores[m], k, state[m], p.scale);
      mma_f16(sum, a, b);
    }
  }
#pragma unroll
  for (int m = 0; m < Rows; ++m) {
    finish_sums(state[m]);
    write_rows(p, sum[m], state[m], p.out + image * p.out_image + head, first + row + m * 16, 0, lane,
               Aligned);
  }
}

/// Heads of any size. Warps are two groups of four: a group has 32 queries, and each of its warps a quarter
/// of a step's keys, then of the output's columns. Weights and the maxima of rows go through shared memory.
/// Pieces of queries and keys, then of values pass through a ring of tiles. Each slice of wider heads
/// computes the scores again.
DEVICE void attention_wide(const AttentionArgs& p) {
  constexpr int Pitch = kWideChunk + 8, ValuePitch = kWideSlice + 8, ValueRows = 16,
                Tiles = kWideSlice / 4 / 8, Rows = 2, Keys = kWideKeys / 4 / 8;
  struct Shared {
    half ring[kWideStages][(kWideQueries + kWideKeys) * Pitch], weights[kWideQueries * Pitch];
    float rows[4][kWideQueries];
  };
  static_assert(ValueRows * ValuePitch <= (kWideQueries + kWideKeys) * Pitch, "values fit into a stage");
  static_assert(sizeof(Shared) == kWideSharedBytes, "all shared memory");
  Shared& s = shared_memory<Shared>();
  const int lane = threadIdx.x % 32, part = threadIdx.x / 32 % 4, row = threadIdx.x / 128 * 32,
            first = blockIdx.x * kWideQueries;
  const int head = blockIdx.y * p.head_dim, image = blockIdx.z / p.slices,
            slice = blockIdx.z % p.slices * kWideSlice;
  const half *q = p.q + image * p.q_image + head + static_cast<int64_t>(first) * p.ldq,
             *keys = p.keys[image] + head;
  const int length = p.causal ? min(p.k_length, first + kWideQueries) : p.k_length;
  const int chunks = (p.head_dim + kWideChunk - 1) / kWideChunk, pieces = chunks + kWideKeys / ValueRows;
  const bool aligned = p.aligned != 0;
  const int steps = (length + kWideKeys - 1) / kWideKeys;
  const bool writes = slice + part * Tiles * 8 < p.head_dim;  // any columns

  // What is copied next: piece load_piece of the step with keys from load_key on.
  int load_piece = 0, load_key = 0, load_stage = 0;
  const auto load = [&] {
    if (load_key < length) {
      half* to = s.ring[load_stage];
      const int left = p.k_length - load_key, column = load_piece * kWideChunk,
                key = (load_piece - chunks) * ValueRows;
      const half* from = keys + static_cast<int64_t>(load_key) * p.ldk;
      if (load_piece < chunks) {
        load_rows<kWideQueries, kWideChunk, Pitch, kWideThreads>(to, q + column, p.ldq, p.q_length - first,
                                                                 p.head_dim - column, aligned);
        load_rows<kWideKeys, kWideChunk, Pitch, kWideThreads>(to + kWideQueries * Pitch, from + column, p.ldk,
                                                              left, p.head_dim - column, aligned);
      } else {
        load_rows<ValueRows, kWideSlice, ValuePitch, kWideThreads>(
            to, from + p.v_offset + static_cast<int64_t>(key) * p.ldk + slice, p.ldk, left - key,
            p.head_dim - slice, aligned);
      }
      if (++load_piece == pieces) load_piece = 0, load_key += kWideKeys;
      load_stage = (load_stage + 1) % kWideStages;
    }
    cp_async_commit();
  };
#pragma unroll 1
  for (int i = 0; i < kWideStages - 1; ++i) load();

  float sum[Rows][Tiles][4], scores[Rows][Keys][4];
  set_zero(sum);
  set_zero(scores);
  RowState state[Rows];
#pragma unroll
  for (int m = 0; m < Rows; ++m) state[m].begin();
  const int upper = row + lane / 4;  // the thread's first row in the block
  int key = 0, piece = 0, stage = 0;
  for (int i = steps * pieces; i > 0; --i) {
    cp_async_wait<kWideStages - 2>();
    __syncthreads();  // this tile is there, and nobody reads the one before any more
    load();
    const half* tile = s.ring[stage];
    stage = (stage + 1) % kWideStages;
    if (piece < chunks) {
#pragma unroll
      for (int k = 0; k < kWideChunk / 16; ++k) {
        uint32_t a[Rows][4], b[Keys][2];
        load_left<Rows, Pitch>(a, tile + row * Pitch, k, lane);
        load_keys<Keys, Pitch>(b, tile + (kWideQueries + part * Keys * 8) * Pitch, k, lane);
        mma_f16(scores, a, b);
      }
    } else if (writes) {
      uint32_t a[Rows][4], b[Tiles][2];
      load_left<Rows, Pitch>(a, s.weights + row * Pitch, piece - chunks, lane);
      load_values<Tiles, ValuePitch>(b, tile + part * Tiles * 8, 0, lane);
      mma_f16(sum, a, b);
    }
    if (++piece == chunks) {
      if (key + kWideKeys > p.k_length || (p.causal && key + kWideKeys > first))
#pragma unroll
        for (int m = 0; m < Rows; ++m) {
          const int last = p.causal ? first + upper + m * 16 : p.k_length - 1;
          mask(scores[m], key + part * Keys * 8 + lane % 4 * 2, last, last + (p.causal ? 8 : 0), p.k_length);
        }
      float maxima[Rows][2];
      row_maxima(maxima, scores);
#pragma unroll
      for (int m = 0; m < Rows; ++m)
#pragma unroll
        for (int i = 0; i < 2; ++i)
          if (lane % 4 == 0) s.rows[part][upper + m * 16 + i * 8] = maxima[m][i];
      __syncthreads();
#pragma unroll
      for (int m = 0; m < Rows; ++m)
#pragma unroll
        for (int i = 0; i < 2; ++i)
#pragma unroll
          for (int other = 0; other < 4; ++other)
            maxima[m][i] = fmaxf(maxima[m][i], s.rows[other][upper + m * 16 + i * 8]);
      raise_shifts(state, sum, maxima, p.scale);
#pragma unroll
      for (int m = 0; m < Rows; ++m) {
        uint32_t weights[4];
        weigh(weights, scores[m], 0, state[m], p.scale);
#pragma unroll
        for (int i = 0; i < 4; ++i)
          *reinterpret_cast<uint32_t*>(s.weights + (upper + m * 16 + i % 2 * 8) * Pitch + part * Keys * 8 +
                                       i / 2 * 8 + lane % 4 * 2) = weights[i];
      }
      set_zero(scores);
    } else if (piece == pieces) {
      piece = 0, key += kWideKeys;
    }
  }
  // Each warp has the sums of its own keys.
#pragma unroll
  for (int m = 0; m < Rows; ++m) {
    finish_sums(state[m]);
#pragma unroll
    for (int i = 0; i < 2; ++i)
      if (lane % 4 == 0) s.rows[part][upper + m * 16 + i * 8] = state[m].sum[i];
  }
  __syncthreads();
#pragma unroll
  for (int m = 0; m < Rows; ++m) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int at = upper + m * 16 + i * 8;
      state[m].sum[i] = (s.rows[0][at] + s.rows[1][at]) + (s.rows[2][at] + s.rows[3][at]);
    }
    write_rows(p, sum[m], state[m], p.out + image * p.out_image + head, first + row + m * 16,
               slice + part * Tiles * 8, lane, aligned);
  }
}

}  // namespace nd::cuda

#define ND_ATTENTION(name, index, aligned)                                \
  ND_KERNEL(attention_##name, AttentionArgs, nd::cuda::kAttentionThreads, \
            nd::cuda::kAttentionShapes[index].blocks, nd::cuda::attention<index, aligned>)
ND_ATTENTION(40, 0, true)
ND_ATTENTION(64, 1, true)
ND_ATTENTION(80, 2, true)
ND_ATTENTION(128, 3, true)
ND_ATTENTION(160, 4, true)
ND_ATTENTION(40_unaligned, 0, false)
#undef ND_ATTENTION
ND_KERNEL(attention_wide, AttentionArgs, nd::cuda::kWideThreads, 1, nd::cuda::attention_wide)
