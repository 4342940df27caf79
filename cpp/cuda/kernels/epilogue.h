// The end of a product: bias, activation, residual, and where a row of the product goes in y.
#pragma once
#include "cuda/kernels/device.h"
#include "cuda/kernels/moments.h"

namespace nd::cuda {

DEVICE float sigmoid(float x) {
  return __fdividef(1.0f, 1.0f + __expf(-x));
}
DEVICE float gelu(float x) {
  return 0.5f * x * (1.0f + erff(x * 0.70710678f));
}
/// NaN stays NaN, which fmaxf would not return.
DEVICE float relu(float x) {
  return x <= 0.0f ? 0.0f : x;
}
DEVICE float activate(float x, ProductActivation activation) {
  switch (activation) {
    case ProductActivation::silu:
      return x * sigmoid(x);
    case ProductActivation::gelu:
      return gelu(x);
    case ProductActivation::quick_gelu:
      return x * sigmoid(1.702f * x);
    case ProductActivation::relu:
      return relu(x);
    default:
      return x;
  }
}

/// Saturates at the largest fp16 value, because an infinity would become NaN in the next layer. Sums of fp16
/// values are never infinite themselves: NaN and infinity come from the weights. They stay what they are, so
/// that they are reported as on the CPU; fminf and fmaxf would make a number of NaN.
DEVICE float in_range(float x) {
  return fabsf(x) < INFINITY ? fminf(fmaxf(x, -65504.0f), 65504.0f) : x;
}

DEVICE void load8(const half* from, float (&v)[8]) {
  const uint4 packed = *reinterpret_cast<const uint4*>(from);
  const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 two = __half22float2(*reinterpret_cast<const __half2*>(&words[i]));
    v[2 * i] = two.x, v[2 * i + 1] = two.y;
  }
}
DEVICE void store8(half* to, const float (&v)[8]) {
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const __half2 two = __floats2half2_rn(in_range(v[2 * i]), in_range(v[2 * i + 1]));
    words[i] = *reinterpret_cast<const uint32_t*>(&two);
  }
  *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
}

/// Element of y where row m of the product begins; −1 where it has no place.
DEVICE int64_t output_row(const ProductArgs& p, int m, int parity) {
  const int image = m / p.grid_pixels, pixel = m - image * p.grid_pixels, gy = pixel / p.grid_w;
  const int y = gy * p.out_step + p.out_y + parity / 2;
  const int x = (pixel - gy * p.grid_w) * p.out_step + p.out_x + parity % 2;
  if (y >= p.out_h || x >= p.out_w) return -1;
  return ((static_cast<int64_t>(image) * p.out_h + y) * p.out_w + x) * p.y_columns;
}

/// v = alpha · v + bias
DEVICE void add_bias(const ProductArgs& p, float (&v)[8], int column) {
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] *= p.alpha;
  if (!p.bias) return;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float4 b = *reinterpret_cast<const float4*>(p.bias + column + 4 * i);
    v[4 * i] += b.x, v[4 * i + 1] += b.y, v[4 * i + 2] += b.z, v[4 * i + 3] += b.w;
  }
}

/// Adds the residual and writes 8 columns of y, or those that exist. v becomes what is rounded there.
DEVICE void write_columns(const ProductArgs& p, float (&v)[8], int64_t row, int column) {
  const int count = min(8, p.y_columns - column);
  half* to = p.y + row + column;
  if (p.y_columns % 8 == 0) {
    if (p.residual) {
      float r[8];
      load8(p.residual + row + column, r);
#pragma unroll
      for (int i = 0; i < 8; ++i) v[i] += r[i];
    }
    if (p.relu_after_residual) {
#pragma unroll
      for (int i = 0; i < 8; ++i) v[i] = relu(v[i]);
    }
    store8(to, v);
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (i >= count) break;
    float x = v[i];
    if (p.residual) x += __half2float(p.residual[row + column + i]);
    if (p.relu_after_residual) x = relu(x);
    v[i] = x;
    to[i] = __float2half_rn(in_range(x));
  }
}

/// Columns [column, column + 8) of row m.
DEVICE void finish(const ProductArgs& p, float (&v)[8], int m, int column, int parity) {
  const int64_t row = output_row(p, m, parity);
  if (row < 0) return;
  add_bias(p, v, column);
  if (p.image_bias) {
    const half* from = p.image_bias + static_cast<int64_t>(m / p.grid_pixels) * p.image_bias_stride + column;
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (column + i < p.o) v[i] += __half2float(from[i]);
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] = activate(v[i], p.activation);
  write_columns(p, v, row, column);
}

/// Eight values and, in the next eight columns, their gates.
DEVICE void finish_geglu(const ProductArgs& p, float (&v)[8], float (&gates)[8], int m, int column,
                         int parity) {
  const int64_t row = output_row(p, m, parity);
  if (row < 0 || column / 2 >= p.y_columns) return;
  add_bias(p, v, column);
  add_bias(p, gates, column + 8);
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] *= gelu(gates[i]);
  write_columns(p, v, row, column / 2);
}

DEVICE void read8(const float* from, float (&v)[8]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float4 part = *reinterpret_cast<const float4*>(from + 4 * i);
    v[4 * i] = part.x, v[4 * i + 1] = part.y, v[4 * i + 2] = part.z, v[4 * i + 3] = part.w;
  }
}

DEVICE void write8(float* to, const float (&v)[8]) {
#pragma unroll
  for (int i = 0; i < 2; ++i)
    *reinterpret_cast<float4*>(to + 4 * i) = float4{v[4 * i], v[4 * i + 1], v[4 * i + 2], v[4 * i + 3]};
}
/// x after it was written to a tensor and read again.
DEVICE float as_stored(float x) {
  return __half2float(__float2half_rn(in_range(x)));
}

/// Floats from one of 16 rows of NT · 8 columns to the next: fewer bank conflicts.
template <int NT>
constexpr int kFragmentPitch = NT * 8 + 4;

/// A warp's 16 rows of NT · 8 columns from shared memory, the first of which is column o0. m_of(row) is the
/// product's row, or −1 for none. Where moments are taken, what is written to y takes the sums' place.
template <int NT, class MOf>
DEVICE void finish_rows(const ProductArgs& p, float* staging, int pitch, const MOf& m_of, int o0, int lane,
                        int parity, int split) {
  const bool geglu = p.splits == 1 && p.activation == ProductActivation::geglu;
  const int width = geglu ? 2 : 1, pieces = NT / width;
  for (int index = lane; index < 16 * pieces; index += 32) {
    const int row = index / pieces, piece = index % pieces * width, column = o0 + piece * 8;
    const int m = column < p.o ? m_of(row) : -1;
    if (m < 0) continue;
    float* from = staging + row * pitch + piece * 8;
    float v[8];
    read8(from, v);
    if (p.splits > 1) {
      const int columns = (p.o + 7) / 8 * 8;
      float* to = p.partial + (static_cast<int64_t>(split) * p.m + m) * columns + column;
      write8(to, v);
    } else if (geglu) {
      float gates[8];
      read8(from + 8, gates);
      finish_geglu(p, v, gates, m, column, parity);
    } else {
      finish(p, v, m, column, parity);
      if (!p.moments) continue;
#pragma unroll
      for (int i = 0; i < 8; ++i) v[i] = as_stored(v[i]);
      write8(from, v);
    }
  }
}

/// Turns a warp's 16 rows of fragments (of mma or wgmma) into rows of 8 neighbouring columns, in its own part
/// of `staging`.
template <int NT>
DEVICE void stage_fragments(const float (&sum)[NT][4], float* staging, int lane) {
#pragma unroll
  for (int n = 0; n < NT; ++n)
#pragma unroll
    for (int part = 0; part < 2; ++part) {
      float* to = staging + (part * 8 + lane / 4) * kFragmentPitch<NT> + n * 8 + lane % 4 * 2;
      *reinterpret_cast<float2*>(to) = make_float2(sum[n][part * 2], sum[n][part * 2 + 1]);
    }
}

/// The end of a product for 16 of a warp's rows, which `put` puts there. Adds what is written to
/// `moments` if the product has any.
template <int NT, class Put, class MOf>
DEVICE void finish_fragments(const ProductArgs& p, const Put& put, float* staging, const MOf& m_of, int o0,
                             int lane, int parity, int split, WarpMoments<NT>& moments) {
  constexpr int Pitch = kFragmentPitch<NT>;
  put();
  __syncwarp();
  finish_rows<NT>(p, staging, Pitch, m_of, o0, lane, parity, split);
  __syncwarp();
  if (!p.moments) return;
  moments.add(staging, Pitch, __ballot_sync(~0u, lane < 16 && m_of(lane) >= 0), lane);
  __syncwarp();
}

/// Floats of shared memory that finish_block() needs.
template <int NT, int WarpsM, int WarpsN>
constexpr int kFinishFloats =
    WarpsM* WarpsN * 16 * kFragmentPitch<NT> + kBlockMomentFloats<NT, WarpsM, WarpsN>;

/// The end of a block's product, whose warps have MT · 16 rows each: of rows from m0 to `end`. A loop around
/// one copy of the code, which is most of a kernel: only what names registers is there for each of its turns.
template <int WarpsM, int WarpsN, int MT, int NT>
DEVICE void finish_block(const ProductArgs& p, const float (&sum)[MT][NT][4], float* shared, int m0, int end,
                         int o0, int parity, int split) {
  constexpr int Staging = 16 * kFragmentPitch<NT>;
  const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
  const int first = m0 + warp / WarpsN * MT * 16, column = o0 + warp % WarpsN * NT * 8;
  float* staging = shared + warp * Staging;
  WarpMoments<NT> moments;
#pragma unroll 1
  for (int turn = 0; turn < MT; ++turn) {
    const int row = first + turn * 16;
    const auto m_of = [&](int r) { return row + r < end ? row + r : -1; };
    const auto put = [&] {
#pragma unroll
      for (int m = 0; m < MT; ++m)
        if (m == turn) stage_fragments<NT>(sum[m], staging, lane);
    };
    finish_fragments<NT>(p, put, staging, m_of, column, lane, parity, split, moments);
  }
  if (!p.moments) return;
  store_block_moments<NT, WarpsM, WarpsN>(p, moments, shared + WarpsM * WarpsN * Staging, thread, o0,
                                          piece_of_tile(p, blockIdx.x, parity), [] { __syncthreads(); });
}

}  // namespace nd::cuda
