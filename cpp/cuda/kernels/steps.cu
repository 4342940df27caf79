// Guidance and the sampling methods' arithmetic on latents, for lib/schedulers/tensors.ts and
// lib/pipeline/guidance.ts on the CPU: the same operations in double precision, none of them contracted, so
// that the results are the same bits.
#include "cuda/kernels/device.h"

namespace nd::cuda {

DEVICE bool is_finite(float x) {
  return (__float_as_uint(x) & 0x7f800000u) != 0x7f800000u;
}

DEVICE double combined(const StepOperation& op, int64_t i) {
  double sum = __dmul_rn(op.term[0].factor, static_cast<double>(op.term[0].x[i]));
  // JavaScript begins long sums with zero, which makes a difference to −0 alone.
  if (op.terms > 3) sum = __dadd_rn(0.0, sum);
  for (int32_t t = 1; t < op.terms; ++t)
    sum = __dadd_rn(sum, __dmul_rn(op.term[t].factor, static_cast<double>(op.term[t].x[i])));
  return sum;
}

/// A thread has one element of all tensors, so it reads what it has written itself.
DEVICE void step_operations(const StepArgs& p) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kMoveThreads + threadIdx.x;
  if (i >= p.count) return;
  for (int32_t o = 0; o < p.operations; ++o) {
    const StepOperation& op = p.operation[o];
    float y;
    if (op.kind == StepKind::clamp) {
      const float x = op.term[0].x[i], limit = static_cast<float>(op.term[0].factor);
      y = x < -limit ? -limit : x > limit ? limit : x;  // NaN stays NaN
    } else if (op.kind == StepKind::guide) {
      const double u = op.term[0].x[i], c = op.term[1].x[i];
      y = static_cast<float>(__dadd_rn(u, __dmul_rn(op.term[0].factor, __dsub_rn(c, u))));
    } else if (op.kind == StepKind::blend) {
      const double outside = op.term[0].x[i], inside = op.term[1].x[i], mask = op.term[2].x[i];
      y = static_cast<float>(__dadd_rn(__dmul_rn(__dsub_rn(1.0, mask), outside), __dmul_rn(mask, inside)));
    } else if (op.kind == StepKind::edit) {
      const double both = op.term[0].x[i], image = op.term[1].x[i], neither = op.term[2].x[i];
      const double text = __dmul_rn(op.term[0].factor, __dsub_rn(both, image));
      const double picture = __dmul_rn(op.term[1].factor, __dsub_rn(image, neither));
      y = static_cast<float>(__dadd_rn(__dadd_rn(neither, text), picture));
    } else {
      y = static_cast<float>(combined(op, i));
    }
    op.y[i] = y;
    // The earliest program counts, which has the greatest mark.
    if (op.check != StepCheck::nothing && !is_finite(y))
      atomicMax(p.checks + (op.check == StepCheck::latents), p.mark);
  }
}

DEVICE double block_sum(double mine, double* partial) {
  partial[threadIdx.x] = mine;
  __syncthreads();
  for (uint32_t half = kRescaleThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
    __syncthreads();
  }
  const double sum = partial[0];
  __syncthreads();
  return sum;
}

/// Sample standard deviation (n − 1).
DEVICE double deviation(const float* x, int64_t count, double* partial) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kRescaleThreads) sum += static_cast<double>(x[i]);
  const double mean = block_sum(sum, partial) / static_cast<double>(count);
  sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kRescaleThreads) {
    const double difference = static_cast<double>(x[i]) - mean;
    sum += difference * difference;
  }
  return sqrt(block_sum(sum, partial) / static_cast<double>(count - 1));
}

/// A block for each image. The order of its sums is not that of JavaScript, so the last bit may differ.
DEVICE void step_rescale(const RescaleArgs& p) {
  struct Shared {
    double partial[kRescaleThreads];
  };
  static_assert(sizeof(Shared) == kRescaleSharedBytes, "as the host says");
  double* const partial = shared_memory<Shared>().partial;
  const int64_t at = static_cast<int64_t>(blockIdx.x) * p.count;
  const double ratio =
      deviation(p.conditional + at, p.count, partial) / deviation(p.guided + at, p.count, partial);
  // Infinity and NaN minus themselves are NaN.
  const double factor = ratio - ratio == 0.0 ? p.rescale * ratio + 1.0 - p.rescale : 1.0;
  for (int64_t i = threadIdx.x; i < p.count; i += kRescaleThreads)
    p.y[at + i] = static_cast<float>(static_cast<double>(p.guided[at + i]) * factor);
}

}  // namespace nd::cuda

ND_KERNEL(step_operations, StepArgs, nd::cuda::kMoveThreads, 2, nd::cuda::step_operations)
ND_KERNEL(step_rescale, RescaleArgs, nd::cuda::kRescaleThreads, 1, nd::cuda::step_rescale)
