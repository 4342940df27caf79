// Arguments that the methods of all autoencoders have.
#pragma once
#include <limits>

#include "arguments.h"
#include "engine_limits.h"

namespace nd_binding {

struct ImageSizes {
  int64_t n, h, w, pixels;
};

inline ImageSizes read_image_sizes(const Napi::CallbackInfo& info, size_t first, int64_t min_side) {
  ImageSizes sizes{};
  sizes.n = to_integer(info[first], "n", 1, Limits::batch);
  sizes.h = to_integer(info[first + 1], "h", min_side, Limits::side);
  sizes.w = to_integer(info[first + 2], "w", min_side, Limits::side);
  sizes.pixels = batch_pixels(sizes.n, sizes.h, sizes.w);
  return sizes;
}

/// The working memory that a call may take; null and undefined: no bound.
inline size_t read_max_bytes(Napi::Value value) {
  if (value.IsNull() || value.IsUndefined()) return std::numeric_limits<size_t>::max();
  return static_cast<size_t>(to_integer(value, "bytes", 0, Limits::bytes));
}

/// Number of pixels of a decoded image: factor² for each pixel of the latents.
inline int64_t scaled_pixels(const ImageSizes& sizes, int64_t factor) {
  return batch_pixels(sizes.n, sizes.h * factor, sizes.w * factor);
}

}  // namespace nd_binding
