// IEEE half and bfloat16, one number at a time and without branches, so that loops vectorize.
#pragma once
#include <cstdint>
#include <cstring>

namespace nd {

inline uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

inline float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

/// Exact, including subnormals.
inline float half_to_float(uint16_t half) {
  // Exponent and mantissa moved into place make a float that is 2^112 too small, subnormal where the half is.
  const float scaled = float_of(static_cast<uint32_t>(half & 0x7fff) << 13) * 0x1p112f;
  const uint32_t special =
      scaled >= 65536.0f ? 0x7f800000u : 0u;  // infinity, NaN: all exponent bits are ones
  return float_of(bits_of(scaled) | special | static_cast<uint32_t>(half & 0x8000) << 16);
}

/// Rounds to nearest, ties to even; values beyond the largest half become infinity.
inline uint16_t float_to_half(float x) {
  const uint32_t sign = bits_of(x) & 0x80000000u, size = bits_of(x) ^ sign;
  const uint32_t infinite = size > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const uint32_t normal = (size - (112u << 23) + 0xfffu + (size >> 13 & 1)) >> 13;
  // Below 2^-14: an addition that leaves exactly the half's bits in the sum's mantissa, rounded by the
  // hardware.
  const uint32_t subnormal = bits_of(float_of(size) + 0.5f) - bits_of(0.5f);
  const uint32_t half = size >= (143u << 23) ? infinite : size < (113u << 23) ? subnormal : normal;
  return static_cast<uint16_t>(half | sign >> 16);
}

/// Rounds to nearest, ties to even; NaN stays NaN.
inline uint16_t float_to_bfloat16(float x) {
  const uint32_t bits = bits_of(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 64);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

/// Two bytes, lowest first, at any address.
inline float read_half(const uint8_t (&bytes)[2]) {
  return half_to_float(static_cast<uint16_t>(bytes[0] | bytes[1] << 8));
}

inline void write_half(float x, uint8_t (&bytes)[2]) {
  const uint16_t half = float_to_half(x);
  bytes[0] = static_cast<uint8_t>(half);
  bytes[1] = static_cast<uint8_t>(half >> 8);
}

}  // namespace nd
