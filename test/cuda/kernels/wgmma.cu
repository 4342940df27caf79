// A product by tensor copies, mbarriers and wgmma, with some of it broken on purpose where Bug says so.
#include "cuda/kernels/hopper.h"
#include "test_arguments.h"

namespace nd::cuda {

template <int Bug>
DEVICE void wgmma_product(const WgmmaArgs& p) {
#if !defined(__CUDACC__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  struct Shared {
    half a[kWgmmaStages][kWgmmaTile * kWgmmaTile], b[kWgmmaStages][kWgmmaTile * kWgmmaTile];
    uint64_t full[kWgmmaStages], empty[kWgmmaStages];
  };
  Shared& s = shared_memory<Shared>();
  const TensorMap *map_a = reinterpret_cast<const TensorMap*>(&p.a),
                  *map_b = reinterpret_cast<const TensorMap*>(&p.b);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, m0 = blockIdx.x * kWgmmaTile,
            n0 = blockIdx.y * kWgmmaTile;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kWgmmaStages; ++i) barrier_init(&s.full[i], 1), barrier_init(&s.empty[i], 128);
    fence_barrier_init();
  }
  __syncthreads();
  const int steps = (p.k + kWgmmaTile - 1) / kWgmmaTile;
  if (warp == 4) {
    if (lane == 0)
      for (int step = 0; step < steps; ++step) {
        const int stage = step % kWgmmaStages, round = step / kWgmmaStages;
        if (round > 0 && Bug != 1) barrier_wait(&s.empty[stage], (round - 1) & 1);
        barrier_expect(&s.full[stage], Bug == 2 ? sizeof s.a[0] : 2 * sizeof s.a[0]);
        tensor_copy_2d(s.a[stage], map_a, &s.full[stage], step * kWgmmaTile, m0);
        tensor_copy_2d(s.b[stage], map_b, &s.full[stage], step * kWgmmaTile, n0);
      }
    return;
  }
  float c[8][4];
#pragma unroll
  for (int n = 0; n < 8; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) c[n][i] = 0;
  for (int step = 0; step < steps; ++step) {
    const int stage = step % kWgmmaStages;
    barrier_wait(&s.full[stage], step / kWgmmaStages & 1);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k)
      wgmma(c, matrix_descriptor(s.a[stage] + k * 16),
            matrix_descriptor(s.b[stage] + k * (Bug == 3 ? 8 : 16)));
    wgmma_commit();
    wgmma_wait<Bug == 4 ? 1 : 0>();
    barrier_arrive(&s.empty[stage]);
  }
#pragma unroll
  for (int n = 0; n < 8; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = m0 + warp * 16 + i / 2 * 8 + lane / 4, column = n0 + n * 8 + lane % 4 * 2 + i % 2;
      if (row < p.m && column < p.n) p.c[static_cast<int64_t>(row) * p.n + column] = c[n][i];
    }
#endif
}

}  // namespace nd::cuda

ND_KERNEL(test_wgmma, WgmmaArgs, nd::cuda::kWgmmaThreads, 1, nd::cuda::wgmma_product<0>)
#ifndef __CUDACC__
ND_KERNEL(planted_wgmma_1, WgmmaArgs, nd::cuda::kWgmmaThreads, 1, nd::cuda::wgmma_product<1>)
ND_KERNEL(planted_wgmma_2, WgmmaArgs, nd::cuda::kWgmmaThreads, 1, nd::cuda::wgmma_product<2>)
ND_KERNEL(planted_wgmma_3, WgmmaArgs, nd::cuda::kWgmmaThreads, 1, nd::cuda::wgmma_product<3>)
ND_KERNEL(planted_wgmma_4, WgmmaArgs, nd::cuda::kWgmmaThreads, 1, nd::cuda::wgmma_product<4>)
#endif
