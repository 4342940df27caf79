// The running softmax of a warp's 16 rows of scores: a thread has two rows, eight below each other, and every
// fourth pair of their columns.
#pragma once
#include "cuda/kernels/device.h"

namespace nd::cuda {

struct RowState {
  float shift[2], sum[2];  // sum: of this thread's columns until finish_sums()

  DEVICE void begin() {
#pragma unroll
    for (int i = 0; i < 2; ++i) shift[i] = -INFINITY, sum[i] = 0;
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

/// Weights are 2^(score · scale − shift). A row's shift is its largest score · scale so far, or up to this
/// much less: the result is the same, since weights and their sum share the factor, and half precision has
/// room for it.
constexpr float kShiftSlack = 8;

/// Maxima of whole rows from those of each thread's columns.
DEVICE float row_maximum(float maximum) {
  maximum = fmaxf(maximum, __shfl_xor_sync(~0u, maximum, 1));
  return fmaxf(maximum, __shfl_xor_sync(~0u, maximum, 2));
}

/// The largest of each row's scores: this tile's, of whole rows.
template <int Rows, int Keys>
DEVICE void row_maxima(float (&maxima)[Rows][2], const float (&scores)[Rows][Keys][4]) {
#pragma unroll
  for (int m = 0; m < Rows; ++m)
#pragma unroll
    for (int part = 0; part < 2; ++part) {
      float maximum = fmaxf(scores[m][0][part * 2], scores[m][0][part * 2 + 1]);
#pragma unroll
      for (int n = 1; n < Keys; ++n)
        maximum = fmaxf(maximum, fmaxf(scores[m][n][part * 2], scores[m][n][part * 2 + 1]));
      maxima[m][part] = row_maximum(maximum);
    }
}

/// Raises the shifts where a score is too far above one, and rescales what was summed before, in all rows of
/// the warp at once. After the first tiles that is rare.
template <int Rows, int Tiles>
DEVICE void raise_shifts(RowState (&state)[Rows], float (&sum)[Rows][Tiles][4],
                         const float (&maxima)[Rows][2], float scale) {
  bool exceeds = false;
#pragma unroll
  for (int m = 0; m < Rows; ++m)
#pragma unroll
    for (int part = 0; part < 2; ++part)
      exceeds = exceeds || maxima[m][part] * scale - state[m].shift[part] > kShiftSlack;
  if (!__any_sync(~0u, exceeds)) return;
#pragma unroll
  for (int m = 0; m < Rows; ++m)
#pragma unroll
    for (int part = 0; part < 2; ++part) {
      const float shift = fmaxf(state[m].shift[part], maxima[m][part] * scale),
                  rescale = fast_exp2(state[m].shift[part] - shift);
      state[m].shift[part] = shift;
      state[m].sum[part] *= rescale;
#pragma unroll
      for (int n = 0; n < Tiles; ++n) sum[m][n][part * 2] *= rescale, sum[m][n][part * 2 + 1] *= rescale;
    }
}

/// Weights of keys [16k, 16k + 16) as the a operand of the product with the values.
template <int Keys>
DEVICE void weigh(uint32_t (&a)[4], const float (&scores)[Keys][4], int k, RowState& state, float scale) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int part = i % 2;
    const float* from = scores[2 * k + i / 2] + part * 2;
    const float first = fast_exp2(from[0] * scale - state.shift[part]),
                second = fast_exp2(from[1] * scale - state.shift[part]);
    state.sum[part] += first + second;
    const __half2 two = __floats2half2_rn(first, second);
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

/// Writes a warp's 16 rows of `Tiles` · 8 columns, divided by the sums of their rows. aligned: heads are
/// multiples of eight.
template <int Tiles>
DEVICE void write_rows(const AttentionArgs& p, const float (&sum)[Tiles][4], const RowState& state, half* out,
                       int first, int column, int lane, bool aligned) {
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
      if (at >= p.head_dim) continue;
      if (aligned) {
        *reinterpret_cast<__half2*>(to) = two;
      } else {
        to[0] = two.x;
        if (at + 1 < p.head_dim) to[1] = two.y;
      }
    }
  }
}

}  // namespace nd::cuda
