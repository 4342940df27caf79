// Self-attention on Hopper: one warp has the tensor copy engine fetch queries, keys and values; two
// warpgroups have 64 queries each. Weights stay in registers between the two products. While one warpgroup
// computes its softmax, the others of the multiprocessor multiply.
#include "cuda/kernels/hopper.h"
#include "cuda/kernels/softmax.h"

// The instructions are those of sm_90a alone; elsewhere the kernels do not exist.
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)

namespace nd::cuda {

/// The descriptor of what lies some bytes behind: its lower half has the address.
DEVICE uint64_t behind(uint64_t descriptor, uint32_t bytes) {
  return (descriptor & ~uint64_t{0xffffffff}) | (static_cast<uint32_t>(descriptor) + bytes / 16);
}

/// Heads of up to Dim elements.
template <int Dim, int Keys>
DEVICE void attention_hopper(const HopperAttentionArgs& args) {
  constexpr int Boxes = (Dim + 63) / 64, K = (Dim + 15) / 16, Tiles = Dim / 8, Warps = 8, Stages = 2;
  constexpr int TileBytes = Keys * Boxes * 128;
  struct Shared {
    half q[Boxes][kHopperRows * 64], k[Stages][Boxes][Keys * 64], v[Stages][Boxes][Keys * 64];
    uint64_t q_full, k_full[Stages], k_empty[Stages], v_full[Stages], v_empty[Stages];
  };
  Shared& s = shared_memory<Shared>();
  const AttentionArgs& p = args.attention;
  // A shuffle tells the compiler that the whole warp has the same: descriptors then stay in uniform
  // registers.
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x / 32), 0), lane = threadIdx.x % 32;
  const int first = blockIdx.x * kHopperRows, head = blockIdx.y, image = blockIdx.z;
  const int steps = (p.k_length + Keys - 1) / Keys;

  if (threadIdx.x == 0) {
    barrier_init(&s.q_full, 1);
    for (int i = 0; i < Stages; ++i) {
      barrier_init(&s.k_full[i], 1), barrier_init(&s.v_full[i], 1);
      barrier_init(&s.k_empty[i], Warps), barrier_init(&s.v_empty[i], Warps);
    }
    fence_barrier_init();
  }
  __syncthreads();

  if (warp == Warps) {
    if (lane != 0) return;
    const TensorMap *q = reinterpret_cast<const TensorMap*>(&args.q),
                    *keys = reinterpret_cast<const TensorMap*>(&args.keys),
                    *values = reinterpret_cast<const TensorMap*>(&args.values);
    barrier_expect(&s.q_full, sizeof s.q);
    for (int box = 0; box < Boxes; ++box)
      tensor_copy_4d(s.q[box], q, &s.q_full, box * 64, head, first, image);
    for (int step = 0; step < steps; ++step) {
      const int stage = step % Stages;
      const uint32_t phase = step / Stages % 2 ^ 1;  // of the round before
      if (step >= Stages) barrier_wait(&s.k_empty[stage], phase);
      barrier_expect(&s.k_full[stage], TileBytes);
      for (int box = 0; box < Boxes; ++box)
        tensor_copy_4d(s.k[stage][box], keys, &s.k_full[stage], box * 64, head, step * Keys, image);
      if (step >= Stages) barrier_wait(&s.v_empty[stage], phase);
      barrier_expect(&s.v_full[stage], TileBytes);
      for (int box = 0; box < Boxes; ++box)
        tensor_copy_4d(s.v[stage][box], values, &s.v_full[stage], box * 64, head, step * Keys, image);
    }
    return;
  }

  float sum[1][Tiles][4];
#pragma unroll
  for (int n = 0; n < Tiles; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) sum[0][n][i] = 0;
  RowState state[1];
  state[0].begin();
  const uint64_t q_tile = matrix_descriptor(s.q[0] + warp / 4 * (kHopperRows / 2) * 64),
                 k_tiles = matrix_descriptor(s.k[0][0]), v_tiles = across_descriptor(s.v[0][0], Keys * 128);
  barrier_wait(&s.q_full, 0);
  for (int step = 0; step < steps; ++step) {
    const int stage = step % Stages;
    const uint32_t phase = step / Stages % 2;
    float scores[1][Keys / 8][4];
#pragma unroll
    for (int n = 0; n < Keys / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[0][n][i] = 0;
    barrier_wait(&s.k_full[stage], phase);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < K; ++k)
      wgmma(scores[0], behind(q_tile, k / 4 * sizeof s.q[0] + k % 4 * 32),
            behind(k_tiles, stage * sizeof s.k[0] + k / 4 * sizeof s.k[0][0] + k % 4 * 32));
    wgmma_commit();
    wgmma_wait<0>();
    if (lane == 0) barrier_arrive(&s.k_empty[stage]);

    if ((step + 1) * Keys > p.k_length)
      mask(scores[0], step * Keys + lane % 4 * 2, p.k_length - 1, p.k_length - 1, p.k_length);
    float maxima[1][2];
    row_maxima(maxima, scores);
    raise_shifts(state, sum, maxima, p.scale);
    uint32_t weights[Keys / 16][4];
#pragma unroll
    for (int k = 0; k < Keys / 16; ++k) weigh(weights[k], scores[0], k, state[0], p.scale);

    barrier_wait(&s.v_full[stage], phase);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < Keys / 16; ++k)
      wgmma_across(sum[0], weights[k], behind(v_tiles, stage * sizeof s.v[0] + k * 16 * 128));
    wgmma_commit();
    wgmma_wait<0>();
    if (lane == 0) barrier_arrive(&s.v_empty[stage]);
  }
  finish_sums(state[0]);
  write_rows(p, sum[0], state[0], p.out + image * p.out_image + head * p.head_dim, first + warp * 16, 0, lane,
             true);
}

}  // namespace nd::cuda

#define ND_ATTENTION(dim, index)                                                   \
  ND_KERNEL(attention_hopper_##dim, HopperAttentionArgs, nd::cuda::kHopperThreads, \
            nd::cuda::kHopperAttentionShapes[index].blocks,                        \
            nd::cuda::attention_hopper<dim, nd::cuda::kHopperAttentionShapes[index].keys>)
ND_ATTENTION(40, 0)
ND_ATTENTION(64, 1)
ND_ATTENTION(80, 2)
ND_ATTENTION(128, 3)
ND_ATTENTION(160, 4)
#undef ND_ATTENTION

#endif
