// Two small kernels, and copies of them that are broken on purpose: does the emulator notice?
#include "cuda/kernels/device.h"
#include "test_arguments.h"

namespace nd::cuda {

template <int Bug>
DEVICE void reduce(const ReduceArgs& p) {
  struct Shared {
    float partial[32];
  };
  Shared& s = shared_memory<Shared>();
  const int thread = threadIdx.x;
  float sum = 0;
  for (int i = blockIdx.x * kReduceThreads + thread; i < p.count; i += gridDim.x * kReduceThreads)
    sum += p.x[i];
#pragma unroll
  for (int d = 16; d; d /= 2) sum += __shfl_down_sync(~0u, sum, d);
  if (thread % 32 == 0) s.partial[thread / 32] = sum;
  if (Bug == 1) {
    __syncwarp();  // not enough
  } else if (Bug == 2) {
    if (thread < 100) __syncthreads();
  } else {
    __syncthreads();
  }
  if (thread >= 32) return;
  sum = thread < (Bug == 3 ? 32 : kReduceThreads / 32) ? s.partial[thread] : 0;
#pragma unroll
  for (int d = 16; d; d /= 2) sum += __shfl_down_sync(~0u, sum, d);
  if (thread != 0) return;
  if (Bug == 4)
    *p.sum += sum;
  else
    atomicAdd(p.sum, sum);
}

DEVICE int pipeline_at(int row, int chunk) {
  return row * 32 + ((chunk ^ ((row >> 1) & 3)) << 3);
}

template <int Bug>
DEVICE void pipeline(const PipelineArgs& p) {
  struct Shared {
    half a[2][64 * 32], b[2][64 * 32];
  };
  Shared& s = shared_memory<Shared>();
  const int thread = threadIdx.x, lane = thread % 32, warp_m = thread / 64 * 32,
            warp_n = thread / 32 % 2 * 32;
  const auto load = [&](int step) {
    for (int row = thread / 4; row < 64; row += 32) {
      const int chunk = thread % 4, k = step * 32 + chunk * 8;
      const bool valid = Bug == 3 || k < p.k;
      cp_async16(&s.a[step & 1][pipeline_at(row, chunk)], valid ? p.a + row * p.k + k : p.a, valid);
      cp_async16(&s.b[step & 1][pipeline_at(row, chunk)], valid ? p.b + row * p.k + k : p.b, valid);
    }
    cp_async_commit();
  };
  float sum[2][4][4] = {};
  const int steps = (p.k + 31) / 32;
  load(0);
  for (int step = 0; step < steps; ++step) {
    if (step + 1 < steps)
      load(step + 1);
    else
      cp_async_commit();
    if (Bug == 2)
      cp_async_wait<2>();
    else
      cp_async_wait<1>();
    __syncthreads();
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      uint32_t a[2][4], loaded[2][4], b[4][2];
      const void *rows_a[2], *rows_b[2];
      for (int i = 0; i < 2; ++i) {
        rows_a[i] = s.a[step & 1] + pipeline_at(warp_m + i * 16 + lane % 16, k * 2 + lane / 16);
        rows_b[i] =
            s.b[step & 1] + pipeline_at(warp_n + i * 16 + lane % 8 + lane / 16 * 8, k * 2 + lane / 8 % 2);
      }
      ldmatrix_x4(a, rows_a);
      ldmatrix_x4(loaded, rows_b);
      for (int n = 0; n < 4; ++n) b[n][0] = loaded[n / 2][n % 2 * 2], b[n][1] = loaded[n / 2][n % 2 * 2 + 1];
      if (Bug == 4) {
        const uint32_t t = a[0][1];
        a[0][1] = a[0][2], a[0][2] = t;
      }
      mma_f16(sum, a, b);
    }
    if (Bug != 1) __syncthreads();  // the next step writes what this one has read
  }
  for (int m = 0; m < 2; ++m)
    for (int n = 0; n < 4; ++n)
      for (int i = 0; i < 4; ++i) {
        const int row = warp_m + m * 16 + i / 2 * 8 + lane / 4,
                  column = warp_n + n * 8 + lane % 4 * 2 + i % 2;
        p.c[row * 64 + column + (Bug == 5 ? 1 : 0)] = sum[m][n][i];
      }
}

}  // namespace nd::cuda

ND_KERNEL(planted_reduce_0, ReduceArgs, nd::cuda::kReduceThreads, 1, nd::cuda::reduce<0>)
ND_KERNEL(planted_pipeline_0, PipelineArgs, nd::cuda::kPipelineThreads, 1, nd::cuda::pipeline<0>)
#ifndef __CUDACC__
ND_KERNEL(planted_reduce_1, ReduceArgs, nd::cuda::kReduceThreads, 1, nd::cuda::reduce<1>)
ND_KERNEL(planted_reduce_2, ReduceArgs, nd::cuda::kReduceThreads, 1, nd::cuda::reduce<2>)
ND_KERNEL(planted_reduce_3, ReduceArgs, nd::cuda::kReduceThreads, 1, nd::cuda::reduce<3>)
ND_KERNEL(planted_reduce_4, ReduceArgs, nd::cuda::kReduceThreads, 1, nd::cuda::reduce<4>)
ND_KERNEL(planted_pipeline_1, PipelineArgs, nd::cuda::kPipelineThreads, 1, nd::cuda::pipeline<1>)
ND_KERNEL(planted_pipeline_2, PipelineArgs, nd::cuda::kPipelineThreads, 1, nd::cuda::pipeline<2>)
ND_KERNEL(planted_pipeline_3, PipelineArgs, nd::cuda::kPipelineThreads, 1, nd::cuda::pipeline<3>)
ND_KERNEL(planted_pipeline_4, PipelineArgs, nd::cuda::kPipelineThreads, 1, nd::cuda::pipeline<4>)
ND_KERNEL(planted_pipeline_5, PipelineArgs, nd::cuda::kPipelineThreads, 1, nd::cuda::pipeline<5>)
#endif
