// Activations → int8, just before a product that multiplies it.
#include "cuda/kernels/quantize.h"

#include "cuda/kernels/epilogue.h"

namespace nd::cuda {

DEVICE void quantize_rows(const QuantizeArgs& p) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kMoveThreads + threadIdx.x;
  const bool exists = index < p.total;
  float v[8] = {};
  if (exists) load8(p.x + index * 8, v);
  store_int8(p.y, index, v, exists);
}

}  // namespace nd::cuda

ND_KERNEL(quantize_rows, QuantizeArgs, nd::cuda::kMoveThreads, 2, nd::cuda::quantize_rows)
