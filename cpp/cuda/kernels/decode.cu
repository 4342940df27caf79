// Quantized weights in ggml's blocks, and float8 weights → the halves that products read, just before a
// product that needs them. GPU memory holds the bytes as the file has them.
#include "cuda/kernels/blocks.h"
#include "cuda/kernels/epilogue.h"

namespace nd::cuda {

/// Which stored row packed row `row` is, or −1 for one of zeros; see source_row() of layers/product.cpp.
DEVICE int stored_row(const DecodeArgs& p, int row) {
  if (!p.geglu) return row < p.stored_rows ? row : -1;
  const int half_rows = p.stored_rows / 2, value = row / 16 * 8 + row % 8;
  if (value >= half_rows) return -1;
  return row / 8 % 2 ? half_rows + value : value;
}

/// Of element i of this block, which is part of stored row `row`.
template <BlockType Type>
DEVICE SubBlock part_of(const DecodeArgs& p, int64_t row, const unsigned char* block, int i) {
  if (is_float8(Type)) return {p.scales[row / p.scale_rows], 0};
  if (Type == BlockType::q8_apart)
    return {__half2float(p.block_scales[(block - p.blocks) / p.block_elements]), 0};
  return sub_block<Type>(block, i);
}

template <BlockType Type>
DEVICE float element(const DecodeArgs& p, int64_t row, int64_t index) {
  const unsigned char* block = p.blocks + index / p.block_elements * p.block_bytes;
  const int i = static_cast<int>(index % p.block_elements);
  const SubBlock part = part_of<Type>(p, row, block, i);
  return value(part, code<Type>(block, i));
}

/// One weight of the layer: of tap `tap` as the product counts them.
template <BlockType Type>
DEVICE float weight(const DecodeArgs& p, int64_t row, int plane, int tap, int channel) {
  const int64_t first = row * p.stored_taps * p.in;
  const auto stored = [&](int t) {
    return first + (p.channels_last ? static_cast<int64_t>(t) * p.in + channel
                                    : static_cast<int64_t>(channel) * p.stored_taps + t);
  };
  if (!p.folded) return element<Type>(p, row, stored(tap));
  // Taps (y, x) of the 3×3 kernel that nearest-neighbour upsampling folds into this one of 2×2: with an even
  // parity tap 0 alone, then 1 and 2; with an odd one 0 and 1, then 2 alone.
  const int py = plane / 2, px = plane % 2, ty = tap / 2, tx = tap % 2;
  const int y0 = ty ? 1 + py : 0, y1 = ty ? 2 : py, x0 = tx ? 1 + px : 0, x1 = tx ? 2 : px;
  float sum = 0;
  for (int y = y0; y <= y1; ++y)
    for (int x = x0; x <= x1; ++x) sum += element<Type>(p, row, stored(y * 3 + x));
  return sum;
}

/// A thread has a chunk of eight channels.
template <BlockType Type>
DEVICE void decode(const DecodeArgs& p, int64_t index) {
  const int chunk = static_cast<int>(index % p.chunks), per_tap = (p.in + 7) / 8;
  const int64_t packed = index / p.chunks;
  const int plane = static_cast<int>(packed / p.rows), row = stored_row(p, static_cast<int>(packed % p.rows));
  const int tap = chunk / per_tap, channel = chunk % per_tap * 8;
  if (row >= 0 && p.in % 8 == 0 && !p.folded && (p.channels_last || p.stored_taps == 1)) {
    // All in one sub-block.
    const int64_t at = static_cast<int64_t>(row) * p.stored_taps * p.in + tap * p.in + channel;
    const unsigned char* block = p.blocks + at / p.block_elements * p.block_bytes;
    const int i = static_cast<int>(at % p.block_elements);
    const SubBlock part = part_of<Type>(p, row, block, i);
    float v[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) v[j] = value(part, code<Type>(block, i + j));
    return store8(p.out + index * 8, v);
  }
#pragma unroll 1
  for (int j = 0; j < 8; ++j) {
    const float v = row >= 0 && channel + j < p.in ? weight<Type>(p, row, plane, tap, channel + j) : 0.0f;
    p.out[index * 8 + j] = __float2half_rn(in_range(v));
  }
}

DEVICE void decode_blocks(const DecodeArgs& p) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kMoveThreads + threadIdx.x;
  if (index >= p.total) return;
  switch (p.type) {
    case BlockType::q8_0:
      return decode<BlockType::q8_0>(p, index);
    case BlockType::q5_0:
      return decode<BlockType::q5_0>(p, index);
    case BlockType::q5_1:
      return decode<BlockType::q5_1>(p, index);
    case BlockType::q4_0:
      return decode<BlockType::q4_0>(p, index);
    case BlockType::q4_1:
      return decode<BlockType::q4_1>(p, index);
    case BlockType::q6_k:
      return decode<BlockType::q6_k>(p, index);
    case BlockType::q5_k:
      return decode<BlockType::q5_k>(p, index);
    case BlockType::q4_k:
      return decode<BlockType::q4_k>(p, index);
    case BlockType::q3_k:
      return decode<BlockType::q3_k>(p, index);
    case BlockType::q2_k:
      return decode<BlockType::q2_k>(p, index);
    case BlockType::f8_e4m3:
      return decode<BlockType::f8_e4m3>(p, index);
    case BlockType::f8_e5m2:
      return decode<BlockType::f8_e5m2>(p, index);
    case BlockType::q8_apart:
      return decode<BlockType::q8_apart>(p, index);
  }
}

}  // namespace nd::cuda

ND_KERNEL(decode_blocks, DecodeArgs, nd::cuda::kMoveThreads, 2, nd::cuda::decode_blocks)
