#include "vae/image_bytes.h"

#include <algorithm>

#include "weights/formats/half.h"

namespace nd {
namespace {

constexpr int64_t kBlock = 512;  // pixels at a time, so that loops over one channel vectorize

/// Added and subtracted, it leaves a number of 0…255 rounded half to even.
constexpr double kRounds = 6755399441055744.0;  // 1.5 · 2⁵²

/// One channel's levels; whether all numbers are finite.
bool levels_of(const float* x, int64_t count, uint8_t* levels) {
  constexpr uint32_t kExponent = 0x7f800000u;
  uint32_t infinite = 0;
  for (int64_t i = 0; i < count; ++i) {
    infinite |= (bits_of(x[i]) & kExponent) == kExponent ? 1u : 0u;
    double level = (static_cast<double>(x[i]) / 2 + 0.5) * 255;
    level = level > 0 ? level : 0;  // NaN, too
    level = level < 255 ? level : 255;
    levels[i] = static_cast<uint8_t>(static_cast<int32_t>(level + kRounds - kRounds));
  }
  return infinite == 0;
}

}  // namespace

bool image_bytes(const float* planes, int64_t channels, int64_t pixels, uint8_t* out) {
  bool finite = true;
  uint8_t levels[3][kBlock];
  for (int64_t first = 0; first < pixels; first += kBlock) {
    const int64_t count = std::min(kBlock, pixels - first);
    for (int64_t c = 0; c < 3; ++c)
      finite &= levels_of(planes + (channels == 3 ? c * pixels : 0) + first, count, levels[c]);
    for (int64_t i = 0; i < count; ++i)
      for (int64_t c = 0; c < 3; ++c) out[3 * (first + i) + c] = levels[c][i];
  }
  return finite;
}

}  // namespace nd
