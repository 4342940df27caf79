// Blocks of quantized weights exactly as ggml lays them out, byte for byte. Bytes only: a file may place a
// block at any address, and two-byte scales are read with read_half.
#pragma once
#include <cstdint>

namespace nd {

constexpr int kBlock = 32;        // elements of a plain block
constexpr int kSuperBlock = 256;  // elements of a "k" block, which is cut into sub-blocks of 16 or 32

// --- Plain blocks: x = d·q, or d·q + m. Element i < 16 is the low half of qs[i], element i + 16 its high
// half; bit i of qh is the fifth bit of element i. ---

struct BlockQ8_0 {
  static constexpr int kCount = kBlock;
  uint8_t d[2];
  int8_t qs[kBlock];
};
static_assert(sizeof(BlockQ8_0) == 34, "q8_0");

struct BlockQ4_0 {  // q − 8
  static constexpr int kCount = kBlock;
  uint8_t d[2];
  uint8_t qs[kBlock / 2];
};
static_assert(sizeof(BlockQ4_0) == 18, "q4_0");

struct BlockQ4_1 {
  static constexpr int kCount = kBlock;
  uint8_t d[2], m[2];
  uint8_t qs[kBlock / 2];
};
static_assert(sizeof(BlockQ4_1) == 20, "q4_1");

struct BlockQ5_0 {  // q − 16
  static constexpr int kCount = kBlock;
  uint8_t d[2];
  uint8_t qh[kBlock / 8];
  uint8_t qs[kBlock / 2];
};
static_assert(sizeof(BlockQ5_0) == 22, "q5_0");

struct BlockQ5_1 {
  static constexpr int kCount = kBlock;
  uint8_t d[2], m[2];
  uint8_t qh[kBlock / 8];
  uint8_t qs[kBlock / 2];
};
static_assert(sizeof(BlockQ5_1) == 24, "q5_1");

// --- super-blocks: x = (d·scale)·q − dmin·min, with a scale (and min) for each sub-block ---

struct BlockQ2K {  // sub-blocks of 16
  static constexpr int kCount = kSuperBlock;
  uint8_t scales[kSuperBlock / 16];  // low half the scale, high half the min
  uint8_t qs[kSuperBlock / 4];       // element 128·n + 32·j + l: bits 2j of qs[32·n + l]
  uint8_t d[2], dmin[2];
};
static_assert(sizeof(BlockQ2K) == 84, "q2_k");

struct BlockQ3K {  // sub-blocks of 16; q from −4 to 3, scales from −32 to 31; no min
  static constexpr int kCount = kSuperBlock;
  uint8_t hmask[kSuperBlock / 8];  // bit 4n + j of hmask[l] set: q is not negative
  uint8_t qs[kSuperBlock / 4];     // as in q2_k
  uint8_t scales[12];              // six bits each, + 32: see unpack_scales
  uint8_t d[2];
};
static_assert(sizeof(BlockQ3K) == 110, "q3_k");

struct BlockQ4K {  // sub-blocks of 32
  static constexpr int kCount = kSuperBlock;
  uint8_t d[2], dmin[2];
  uint8_t scales[12];  // six bits each: see unpack_scales_mins
  uint8_t qs[kSuperBlock /
             2];  // element 64·c + l: low half of qs[32·c + l]; element 64·c + 32 + l: its high half
};
static_assert(sizeof(BlockQ4K) == 144, "q4_k");

struct BlockQ5K {  // as q4_k, with a fifth bit
  static constexpr int kCount = kSuperBlock;
  uint8_t d[2], dmin[2];
  uint8_t scales[12];
  uint8_t qh[kSuperBlock / 8];  // bit j of qh[l]: element 32·j + l
  uint8_t qs[kSuperBlock / 2];
};
static_assert(sizeof(BlockQ5K) == 176, "q5_k");

struct BlockQ6K {  // sub-blocks of 16; q − 32; no min
  static constexpr int kCount = kSuperBlock;
  uint8_t ql[kSuperBlock /
             2];  // element 128·n + l: low half of ql[64·n + l]; element 128·n + 64 + l: its high half
  uint8_t qh[kSuperBlock / 4];  // element 128·n + 32·j + l: bits 2j of qh[32·n + l]
  int8_t scales[kSuperBlock / 16];
  uint8_t d[2];
};
static_assert(sizeof(BlockQ6K) == 210, "q6_k");

// --- six-bit scales ---

/// q4_k, q5_k: eight scales and eight mins. The first four of each take the low six bits of bytes 0–3 and
/// 4–7; of the others bytes 8–11 hold the low four bits (scale, min) and the top two bits of bytes 0–3 and
/// 4–7 the rest.
inline void unpack_scales_mins(const uint8_t (&bytes)[12], uint8_t (&scales)[8], uint8_t (&mins)[8]) {
  for (int i = 0; i < 4; ++i) {
    scales[i] = bytes[i] & 63;
    mins[i] = bytes[i + 4] & 63;
    scales[i + 4] = static_cast<uint8_t>((bytes[i + 8] & 15) | bytes[i] >> 6 << 4);
    mins[i + 4] = static_cast<uint8_t>(bytes[i + 8] >> 4 | bytes[i + 4] >> 6 << 4);
  }
}

inline void pack_scales_mins(const uint8_t (&scales)[8], const uint8_t (&mins)[8], uint8_t (&bytes)[12]) {
  for (int i = 0; i < 4; ++i) {
    bytes[i] = static_cast<uint8_t>(scales[i] | scales[i + 4] >> 4 << 6);
    bytes[i + 4] = static_cast<uint8_t>(mins[i] | mins[i + 4] >> 4 << 6);
    bytes[i + 8] = static_cast<uint8_t>((scales[i + 4] & 15) | mins[i + 4] << 4);
  }
}

/// q3_k: sixteen scales. Bytes 0–7 hold the low four bits of scales 0–7 and 8–15; scale i's upper two are
/// bits 2·(i / 4) of byte 8 + i % 4.
inline void unpack_scales(const uint8_t (&bytes)[12], int8_t (&scales)[16]) {
  for (int i = 0; i < 16; ++i) {
    const int low = bytes[i % 8] >> (i / 8 * 4) & 15, high = bytes[8 + i % 4] >> (i / 4 * 2) & 3;
    scales[i] = static_cast<int8_t>((low | high << 4) - 32);
  }
}

inline void pack_scales(const int8_t (&scales)[16], uint8_t (&bytes)[12]) {
  for (uint8_t& byte : bytes) byte = 0;
  for (int i = 0; i < 16; ++i) {
    const int value = scales[i] + 32;
    bytes[i % 8] = static_cast<uint8_t>(bytes[i % 8] | (value & 15) << (i / 8 * 4));
    bytes[8 + i % 4] = static_cast<uint8_t>(bytes[8 + i % 4] | value >> 4 << (i / 4 * 2));
  }
}

}  // namespace nd
