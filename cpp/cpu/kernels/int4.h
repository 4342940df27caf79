// Weights of four bits in as many bits of memory: what PackedMatrix holds of them, and what
// ReducedGemm::expand makes into a panel of int8 each time a product wants it.
//
// A panel of nibbles is, for each group of the inner dimension (whose lengths are multiples of 32):
//   float scale[nr], float sum[nr]   what the int8 panel begins a group with: s, and s·Σw
// and then for each 32 of its weights
//   uint16 factor[nr]                f
//   uint16 offset[nr]                o; only where the stored type has minima, else it is 128 − 8·f
//   uint8  nibbles[4][nr][4]         of eight weights of a column: the first four in low halves, then the
//   others
// A nibble q stands for the byte w = (q·f + o) / 256 rounded down, in 16-bit arithmetic: nothing of it
// overflows, as |w| ≤ 127 for every q that is there. The weight itself is s·w.
#pragma once
#include "cpu/kernels/reduced_gemm.h"

namespace nd::cpu {

constexpr int64_t kInt4Block = 32;

constexpr int64_t int4_header_bytes(int64_t nr) {
  return nr * 2 * static_cast<int64_t>(sizeof(float));
}
/// Of 32 weights of each column.
constexpr int64_t int4_block_bytes(int64_t nr, bool offsets) {
  return nr * (kInt4Block / 2 + (offsets ? 4 : 2));
}
int64_t int4_panel_bytes(int64_t nr, bool offsets, const KGroup* groups, int64_t group_count);

/// One stored row as nibbles: weight i is scale·q + offset with scale[i / 32] and offset[i / 32]; where
/// `offset` is null, scale·(q − 8).
struct Int4Row {
  const uint8_t* q;  // one byte each, 0…15
  const float* scale;
  const float* offset;
};

/// Packs up to nr rows of one kind; columns beyond `count` become zeros.
void pack_int4(const Int4Row* rows, int64_t count, int64_t nr, const KGroup* groups, int64_t group_count,
               uint8_t* panel);

}  // namespace nd::cpu
