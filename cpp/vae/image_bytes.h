// Decoded images as bytes.
#pragma once
#include <cstdint>

namespace nd {

/// Planes [channels][pixels] in −1…1, of which there are three or one for all of red, green and blue → RGB
/// [pixels][3]: (x / 2 + ½) · 255 in double precision, clamped and rounded half to even, NaN as 0, as NumPy
/// does for diffusers and lib/image/planes.ts in JavaScript. Returns whether all numbers are finite.
bool image_bytes(const float* planes, int64_t channels, int64_t pixels, uint8_t* out);

}  // namespace nd
