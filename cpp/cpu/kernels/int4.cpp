#include "cpu/kernels/int4.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace nd::cpu {

namespace {

/// How the values of one block become bytes, in units of 1/256 (see int4.h).
struct Factors {
  uint16_t factor = 0, offset = 128;
};

uint16_t to_word(float x) {
  return static_cast<uint16_t>(static_cast<int32_t>(std::nearbyint(x)));
}

/// 32 weights of one row.
struct Block {
  const uint8_t* q;
  float scale, offset;  // the weight is scale·q + offset
  bool symmetric;
  uint8_t lowest = 15, highest = 0;  // values that occur

  Block(const Int4Row& row, int64_t first) : q(row.q + first), symmetric(!row.offset) {
    const int64_t block = first / kInt4Block;
    scale = row.scale[block];
    offset = symmetric ? -8.0f * scale : row.offset[block];
    for (int64_t i = 0; i < kInt4Block; ++i) {
      lowest = std::min(lowest, q[i]);
      highest = std::max(highest, q[i]);
    }
  }
  float weight(int value) const { return scale * static_cast<float>(value) + offset; }
  float largest() const { return std::max(std::fabs(weight(lowest)), std::fabs(weight(highest))); }

  /// A block with a single value may have any scale, so that its weight goes into the offset.
  Factors factors(float inverse) const {
    Factors result;
    if (symmetric) {
      if (lowest != 8 || highest != 8) result.factor = to_word(scale * inverse * 256.0f);
      result.offset = static_cast<uint16_t>(128 - 8 * result.factor);
    } else if (lowest == highest) {
      result.offset = static_cast<uint16_t>(to_word(weight(lowest) * inverse * 256.0f) + 128);
    } else {
      result.factor = to_word(scale * inverse * 256.0f);
      result.offset = static_cast<uint16_t>(to_word(offset * inverse * 256.0f) + 128);
    }
    return result;
  }
};

/// The sum of the int8 weights of a block.
int32_t sum_of_bytes(const uint8_t* q, const Factors& factors) {
  int32_t total = 0;
  for (int64_t i = 0; i < kInt4Block; ++i)
    total += static_cast<int16_t>(static_cast<uint16_t>(q[i] * factors.factor + factors.offset)) >> 8;
  return total;
}

void put(uint8_t* to, uint16_t value) {
  std::memcpy(to, &value, sizeof value);
}

}  // namespace

int64_t int4_panel_bytes(int64_t nr, bool offsets, const KGroup* groups, int64_t group_count) {
  int64_t bytes = 0;
  for (int64_t g = 0; g < group_count; ++g)
    bytes += int4_header_bytes(nr) + groups[g].length / kInt4Block * int4_block_bytes(nr, offsets);
  return bytes;
}

void pack_int4(const Int4Row* rows, int64_t count, int64_t nr, const KGroup* groups, int64_t group_count,
               uint8_t* panel) {
  const bool offsets = rows[0].offset != nullptr;
  const int64_t header_bytes = int4_header_bytes(nr), block_bytes = int4_block_bytes(nr, offsets);
  int64_t first = 0;
  for (int64_t g = 0; g < group_count; ++g) {
    const int64_t length = groups[g].length;
    float* header = reinterpret_cast<float*>(panel);
    uint8_t* blocks = panel + header_bytes;
    std::memset(panel, 0, static_cast<size_t>(header_bytes + length / kInt4Block * block_bytes));
    for (int64_t j = 0; j < nr; ++j) {
      float largest = 0, check = 0;
      for (int64_t i = 0; i < length && j < count; i += kInt4Block) {
        const float block_largest = Block(rows[j], first + i).largest();
        largest = std::max(largest, block_largest);
        check += block_largest * 0.0f;  // NaN if it is NaN or infinite
      }
      const bool any = j < count && largest >= kMinWeight && check == 0;
      int32_t total = 0;
      for (int64_t i = 0; i < length; i += kInt4Block) {
        uint8_t* at = blocks + i / kInt4Block * block_bytes;
        uint8_t* values = at + nr * (offsets ? 4 : 2) + 4 * j;
        Factors factors;
        const uint8_t* q = nullptr;
        if (any) {
          const Block block(rows[j], first + i);
          factors = block.factors(127.0f / largest);
          q = block.q;
        }
        put(at + 2 * j, factors.factor);
        if (offsets) put(at + 2 * (nr + j), factors.offset);
        if (!q) continue;
        total += sum_of_bytes(q, factors);
        for (int64_t k = 0; k < kInt4Block; k += 8)
          for (int64_t b = 0; b < 4; ++b)
            values[k / 2 * nr + b] = static_cast<uint8_t>(q[k + b] | q[k + 4 + b] << 4);
      }
      header[j] = largest / 127.0f + check;
      header[nr + j] = header[j] * static_cast<float>(total);
    }
    panel = blocks + length / kInt4Block * block_bytes;
    first += length;
  }
}

}  // namespace nd::cpu
