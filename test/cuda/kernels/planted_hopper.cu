// In place of Hopper's products: a kernel whose barrier never completes, which the wait for it must end, and
// one that computes nothing.
#include "cuda/kernels/hopper.h"
#include "test_arguments.h"

namespace nd::cuda {

template <class Arguments>
DEVICE void wait_in_vain(const Arguments&) {
#if !defined(__CUDACC__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  uint64_t& barrier = shared_memory<uint64_t>();
  if (threadIdx.x == 0) {
    barrier_init(&barrier, 1);
    fence_barrier_init();
  }
  __syncthreads();
  barrier_wait(&barrier, 0);
#endif
}

template <class Arguments>
DEVICE void compute_nothing(const Arguments&) {}

}  // namespace nd::cuda

ND_KERNEL(planted_hopper_nothing, HopperProductArgs, nd::cuda::kHopperThreads, 1, nd::cuda::compute_nothing)
ND_KERNEL(planted_hopper_hang, HopperProductArgs, nd::cuda::kHopperThreads, 1, nd::cuda::wait_in_vain)
