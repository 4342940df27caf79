// Kernels that do not wait for the previous one, in place of step_operations: does the emulator notice?
#include "cuda/kernels/device.h"
#include "test_arguments.h"

#ifndef __CUDACC__  // ND_KERNEL waits by itself

namespace {

int64_t element() {
  return static_cast<int64_t>(blockIdx.x) * nd::cuda::kMoveThreads + threadIdx.x;
}

/// Never.
const emu::Kernel never("planted_overlap_never", sizeof(nd::cuda::StepArgs), [](void** parameters) {
  const auto p = emu::parameter<nd::cuda::StepArgs>(parameters);
  if (element() < p.count) p.operation[0].y[element()] = 0;
});

/// Not those threads that have nothing to do.
const emu::Kernel some("planted_overlap_some", sizeof(nd::cuda::StepArgs), [](void** parameters) {
  const auto p = emu::parameter<nd::cuda::StepArgs>(parameters);
  if (element() >= p.count) return;
  emu::follow_previous();
  p.operation[0].y[element()] = 0;
});

/// After the first read.
const emu::Kernel late("planted_overlap_late", sizeof(nd::cuda::StepArgs), [](void** parameters) {
  const auto p = emu::parameter<nd::cuda::StepArgs>(parameters);
  const int64_t i = element();
  const float x = i < p.count ? p.operation[0].term[0].x[i] : 0;
  emu::follow_previous();
  if (i < p.count) p.operation[0].y[i] = x;
});

}  // namespace

#endif
