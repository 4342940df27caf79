// Each instruction that the emulator imitates, alone: conformance with hardware, bit by bit.
#include "cuda/kernels/device.h"
#include "test_arguments.h"

namespace nd::cuda {

/// Rows of 16 bytes from `in` to shared memory, in an order that shows every mistake: lane l names row l.
template <bool Transposed>
DEVICE void load_matrix(const InstructionArgs& p) {
  struct Shared {
    uint4 rows[32];
  };
  Shared& s = shared_memory<Shared>();
  const int lane = threadIdx.x;
  s.rows[lane] = reinterpret_cast<const uint4*>(p.in)[lane];
  __syncwarp();
  uint32_t r[4];
  if (Transposed)
    ldmatrix_x4_trans(r, &s.rows[lane]);
  else
    ldmatrix_x4(r, &s.rows[lane]);
  for (int i = 0; i < 4; ++i) p.out[lane * 4 + i] = r[i];
}

/// Six operands of each lane, then four sums.
template <int Element>
DEVICE void multiply(const InstructionArgs& p) {
  const uint32_t* in = p.in + threadIdx.x * 10;
  const uint32_t a[1][4] = {{in[0], in[1], in[2], in[3]}}, b[1][2] = {{in[4], in[5]}};
  float c[1][1][4];
  int32_t sums[1][1][4];
  for (int i = 0; i < 4; ++i) {
    sums[0][0][i] = static_cast<int32_t>(in[6 + i]);
    c[0][0][i] = static_cast<float>(sums[0][0][i]);
  }
  if (Element == 0) mma_f16(c, a, b);
  if (Element == 3) {
    const uint32_t half_a[1][2] = {{in[0], in[1]}}, half_b[1] = {in[4]};
    mma_f16(c, half_a, half_b);
  }
  if (Element == 1) mma_bf16(c, a, b);
  if (Element == 2) mma_s8(sums, a, b);
  for (int i = 0; i < 4; ++i)
    p.out[threadIdx.x * 4 + i] =
        static_cast<uint32_t>(Element == 2 ? sums[0][0][i] : static_cast<int32_t>(c[0][0][i]));
}

/// Odd lanes copy zeros; waits for the first of two groups, then for both.
DEVICE void copy_async(const InstructionArgs& p) {
  struct Shared {
    uint4 first[32], second[32];
  };
  Shared& s = shared_memory<Shared>();
  const int lane = threadIdx.x;
  const uint4* in = reinterpret_cast<const uint4*>(p.in);
  cp_async16(&s.first[lane], in + lane, lane % 2 == 0);
  cp_async_commit();
  cp_async16(&s.second[lane], in + 31 - lane, true);
  cp_async_commit();
  cp_async_wait<1>();
  __syncwarp();
  uint4* out = reinterpret_cast<uint4*>(p.out);
  out[lane] = s.first[lane ^ 1];
  cp_async_wait<0>();
  __syncwarp();
  out[32 + lane] = s.second[lane ^ 3];
}

DEVICE void shuffle(const InstructionArgs& p) {
  const int lane = threadIdx.x;
  const uint32_t x = p.in[lane];
  p.out[lane] = __shfl_xor_sync(~0u, x, 5);
  p.out[32 + lane] = __shfl_down_sync(~0u, x, 3);
  p.out[64 + lane] = __shfl_sync(~0u, x, (lane * 7) % 32);
  p.out[96 + lane] = __shfl_down_sync(~0u, x, 3, 8);
  p.out[128 + lane] = __ballot_sync(~0u, x % 3 == 0);
  p.out[160 + lane] = (__any_sync(~0u, lane == 7) ? 1 : 0) + (__any_sync(~0u, lane == 32) ? 2 : 0);
}

}  // namespace nd::cuda

ND_KERNEL(test_ldmatrix, InstructionArgs, 32, 1, nd::cuda::load_matrix<false>)
ND_KERNEL(test_ldmatrix_trans, InstructionArgs, 32, 1, nd::cuda::load_matrix<true>)
ND_KERNEL(test_mma_f16, InstructionArgs, 32, 1, nd::cuda::multiply<0>)
ND_KERNEL(test_mma_f16_k8, InstructionArgs, 32, 1, nd::cuda::multiply<3>)
ND_KERNEL(test_mma_bf16, InstructionArgs, 32, 1, nd::cuda::multiply<1>)
ND_KERNEL(test_mma_s8, InstructionArgs, 32, 1, nd::cuda::multiply<2>)
ND_KERNEL(test_cp_async, InstructionArgs, 32, 1, nd::cuda::copy_async)
ND_KERNEL(test_shuffle, InstructionArgs, 32, 1, nd::cuda::shuffle)
