// int4 weights: the packed form that PackedMatrix keeps in memory, and that ReducedGemm::expand_int4 turns
// into a panel of int8 whenever a product needs it.
//
// A packed panel holds, for each group of the inner dimension (whose lengths are multiples of 32),
//   float scale[nr], float sum[nr]   the header of the int8 panel's group: s, and s·Σw
// and then, for each 32 weights of the group,
//   uint16 factor[nr]                f
//   uint16 offset[nr]                o; only where the stored type has minima, else it is 128 − 8·f
//   uint8  values[4][nr][4]          eight weights of a column in four bytes: the first four in the low bits
// A four-bit value q represents the int8 weight w = ⌊(q·f + o) / 256⌋ in 16-bit arithmetic, which does not
// overflow: |w| ≤ 127 for every q that occurs. The weight itself is s·w.
#pragma once
#include "cpu/kernels/reduced_gemm.h"

namespace nd::cpu {

constexpr int64_t kInt4Block = 32;

constexpr int64_t int4_header_bytes(int64_t nr) {
  return nr * 2 * static_cast<int64_t>(sizeof(float));
}
/// Bytes of 32 weights of each column.
constexpr int64_t int4_block_bytes(int64_t nr, bool offsets) {
  return nr * (kInt4Block / 2 + (offsets ? 4 : 2));
}
int64_t int4_panel_bytes(int64_t nr, bool offsets, const KGroup* groups, int64_t group_count);

/// One stored row, unpacked: weight i is scale·q + offset with scale[i / 32] and offset[i / 32], or scale·(q
/// − 8) where `offset` is null.
struct Int4Row {
  const uint8_t* q;  // one byte each, 0…15
  const float* scale;
  const float* offset;
};

/// Packs up to nr rows, all with offsets or all without; columns beyond `count` become zeros.
void pack_int4(const Int4Row* rows, int64_t count, int64_t nr, const KGroup* groups, int64_t group_count,
               uint8_t* panel);

}  // namespace nd::cpu
