// The running softmax of a warp's 16 rows of scores: a thread has two rows, eight below each other, and every
// fourth pair of their columns.
#pragma once
#include "cuda/kernels/device.h"

namespace nd::cuda {

struct RowState {
  float max[2], sum[2];  // sum: of this thread's columns until finish_sums()

  DEVICE void begin() {
#pragma unroll
    for (int i = 0; i < 2; ++i) max[i] = -INFINITY, sum[i] = 0;
  }
};

/// Leaves out the columns behind last0 (upper row), last1 (lower row) or `length`; columns begin at `column`.
template <int Keys>
DEVICE void mask(float (&scores)[Keys][4], int column, int last0, int last1, int length) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int last = min(i / 2 ? last1 : last0, length - 1);
#pragma unroll
    for (int n = 0; n < Keys; ++n)
      if (column + n * 8 + i % 2 > last) scores[n][i] = -INFINITY;
  }
}

/// Turns scores into weights 2^((score − maximum) · scale) and rescales what was summed before. A step has at
/// least one column that is not left out, in the first step of each row.
template <int Keys, int Tiles>
DEVICE void weigh(float (&scores)[Keys][4], float (&sum)[Tiles][4], RowState& state, float scale) {
#pragma unroll
  for (int part = 0; part < 2; ++part) {
    float maximum = state.max[part];
#pragma unroll
    for (int n = 0; n < Keys; ++n)
      maximum = fmaxf(maximum, fmaxf(scores[n][part * 2], scores[n][part * 2 + 1]));
    maximum = fmaxf(maximum, __shfl_xor_sync(~0u, maximum, 1));
    maximum = fmaxf(maximum, __shfl_xor_sync(~0u, maximum, 2));
    const float shift = maximum * scale, rescale = fast_exp2(state.max[part] * scale - shift);
    state.max[part] = maximum;
    float total = 0;
#pragma unroll
    for (int n = 0; n < Keys; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& score = scores[n][part * 2 + i];
        score = fast_exp2(score * scale - shift);
        total += score;
      }
    state.sum[part] = state.sum[part] * rescale + total;
#pragma unroll
    for (int n = 0; n < Tiles; ++n) sum[n][part * 2] *= rescale, sum[n][part * 2 + 1] *= rescale;
  }
}

/// Weights of keys [16k, 16k + 16) as the a operand of the product with the values.
template <int Keys>
DEVICE void pack_weights(uint32_t (&a)[4], const float (&weights)[Keys][4], int k) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float* from = weights[2 * k + i / 2] + i % 2 * 2;
    const __half2 two = __floats2half2_rn(from[0], from[1]);
    a[i] = *reinterpret_cast<const uint32_t*>(&two);
  }
}

/// The sums of whole rows.
DEVICE void finish_sums(RowState& state) {
#pragma unroll
  for (int part = 0; part < 2; ++part) {
    state.sum[part] += __shfl_xor_sync(~0u, state.sum[part], 1);
    state.sum[part] += __shfl_xor_sync(~0u, state.sum[part], 2);
  }
}

/// Writes a warp's 16 rows of `Tiles` · 8 columns, divided by the sums of their rows.
template <int Tiles>
DEVICE void write_rows(const AttentionArgs& p, const float (&sum)[Tiles][4], const RowState& state, half* out,
                       int first, int column, int lane) {
#pragma unroll
  for (int part = 0; part < 2; ++part) {
    const int row = first + part * 8 + lane / 4;
    if (row >= p.q_length) continue;
    const float scale = __fdividef(1.0f, state.sum[part]);
#pragma unroll
    for (int n = 0; n < Tiles; ++n) {
      const int at = column + n * 8 + lane % 4 * 2;
      half* to = out + static_cast<int64_t>(row) * p.ldo + at;
      const __half2 two = __floats2half2_rn(sum[n][part * 2] * scale, sum[n][part * 2 + 1] * scale);
      if (p.aligned && at + 1 < p.head_dim) {
        *reinterpret_cast<__half2*>(to) = two;
      } else {
        if (at < p.head_dim) to[0] = two.x;
        if (at + 1 < p.head_dim) to[1] = two.y;
      }
    }
  }
}

}  // namespace nd::cuda
