#include "cpu/layers/pixel_buffer.h"

#include <algorithm>
#include <cstring>

#include "cpu/kernels/int4.h"

namespace nd::cpu {

PixelFormat::PixelFormat(const ReducedGemm* reduced, int64_t channels, bool int4)
    : reduced(reduced), channels(channels), padded(channels), group(channels) {
  if (!reduced) return;
  padded = round_up(channels, reduced->multiple);
  group = padded;
  if (reduced->scale_floats > 0)
    group = piece_length(padded, reduced->max_group, int4 ? kInt4Block : reduced->multiple);
}

std::vector<KGroup> PixelFormat::window_groups(const Inner& inner, int64_t row_pixels) const {
  std::vector<KGroup> result;
  const bool scaled = reduced && reduced->scale_floats > 0;
  // Without scales, neighbouring pixels of a row are one run.
  const int64_t pixels = scaled ? inner.taps_x : 1, length = scaled ? padded : inner.taps_x * padded;
  int64_t piece = length;
  if (scaled)
    piece = group;
  else if (reduced)
    piece = piece_length(length, reduced->max_group, reduced->multiple);
  for (int64_t y = 0; y < inner.taps_y; ++y)
    for (int64_t x = 0; x < pixels; ++x)
      for (int64_t begin = 0; begin < length; begin += piece)
        result.push_back({(y * row_pixels + x) * padded + begin, std::min(piece, length - begin),
                          (y * row_pixels + x) * groups() + begin / piece});
  return result;
}

PixelBuffer::PixelBuffer(Context& ctx, const PixelFormat& format, int64_t pixels)
    : kernels_(ctx.kernels),
      format_(format),
      data_(ctx, pixels * format.bytes()),
      scales_(ctx, pixels * format.scale_floats()) {}

void PixelBuffer::write(int64_t first, const float* x, int64_t count, const float* scale, const float* shift,
                        bool silu) const {
  uint8_t* to = data_.data() + first * format_.bytes();
  if (format_.reduced)
    format_.reduced->convert_rows(x, count, format_.channels, scale, shift, silu, format_.padded,
                                  format_.group, to, scales_.data() + first * format_.scale_floats());
  else if (scale || silu)
    kernels_.affine_rows(x, count, format_.channels, scale, shift, silu, reinterpret_cast<float*>(to));
  else
    std::memcpy(to, x, static_cast<size_t>(count * format_.bytes()));
}

void PixelBuffer::clear(int64_t first, int64_t count) const {
  const int64_t scales = format_.scale_floats();
  std::memset(data_.data() + first * format_.bytes(), 0, static_cast<size_t>(count * format_.bytes()));
  std::fill_n(scales_.data() + first * scales, count * scales, 0.0f);
}

}  // namespace nd::cpu
