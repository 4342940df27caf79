// The reference backend: memory, and moving values.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "core/cancel.h"
#include "reference_backend.h"
#include "weights/formats/half.h"

namespace nd::test {

Address HiddenMemory::allocate(size_t bytes) {
  const uintptr_t at = next_;
  blocks_[at].resize(bytes);
  next_ += (bytes / 4096 + 2) * 4096;  // gaps between blocks: an overrun finds nothing there
  return {at};
}

void HiddenMemory::release(Address block, size_t) noexcept {
  last_ = {};
  blocks_.erase(block.value);
}

void* HiddenMemory::at(Address address) {
  if (address.value - last_.first < last_.second) return last_data_ + (address.value - last_.first);
  auto block = blocks_.upper_bound(address.value);
  if (block != blocks_.begin()) {
    --block;
    const size_t offset = address.value - block->first;
    if (offset <= block->second.size()) {
      last_ = {block->first, block->second.size()};
      last_data_ = block->second.data();
      return last_data_ + offset;
    }
  }
  std::fprintf(stderr, "the reference backend has no memory at %zx\n", static_cast<size_t>(address.value));
  std::abort();
}

void ReferenceBackend::run(Arena& arena, const CancelToken* cancel, Profile* profile,
                           const std::function<void(ForwardContext&)>& forward) {
  ForwardContext ctx{*this, arena, cancel, profile};
  if (cancel) cancel->check();
  forward(ctx);
}

Tensor ReferenceBackend::concat(ForwardContext& ctx, const Tensor& a, const Tensor& b) {
  Tensor out(ctx, a.n, a.h, a.w, a.c + b.c);
  for (int64_t row = 0; row < out.rows() && !ctx.measuring(); ++row) {
    std::copy_n(values(a) + row * a.c, a.c, values(out) + row * out.c);
    std::copy_n(values(b) + row * b.c, b.c, values(out) + row * out.c + a.c);
  }
  return out;
}

void ReferenceBackend::copy_rows(ForwardContext& ctx, const Tensor& from, int64_t from_row, const Tensor& to,
                                 int64_t to_row, int64_t count) {
  if (!ctx.measuring())
    std::copy_n(values(from) + from_row * from.c, count * from.c, values(to) + to_row * to.c);
}

void ReferenceBackend::add_rows(ForwardContext& ctx, const Tensor& from, int64_t from_row, const Tensor& to,
                                int64_t to_row, int64_t count, float factor, bool replaces) {
  for (int64_t i = 0; i < count * from.c && !ctx.measuring(); ++i) {
    const float x = factor == 0 ? 0 : factor * values(from)[from_row * from.c + i];
    float& y = values(to)[to_row * to.c + i];
    y = replaces ? x : y + x;
  }
}

void ReferenceBackend::add_masked(ForwardContext& ctx, const Tensor& from, const Tensor& to, float factor,
                                  const Tensor* mask) {
  for (int64_t i = 0; i < from.size() && !ctx.measuring(); ++i)
    values(to)[i] += factor * (mask ? values(*mask)[i / from.c % from.pixels()] : 1) * values(from)[i];
}

/// As a convolution with the whole filter, forwards or transposed, of an image with reflected edges.
Tensor ReferenceBackend::resample(ForwardContext& ctx, const Tensor& x, Resampling how) {
  const bool doubles = how == Resampling::twice;
  const double filter[4] = {1 / 8.0, 3 / 8.0, 3 / 8.0, 1 / 8.0};
  Tensor out(ctx, x.n, doubles ? 2 * x.h : x.h / 2, doubles ? 2 * x.w : x.w / 2, x.c);
  const auto padded = [](int64_t i, int64_t size) {
    return size == 1 ? 0 : i == 0 ? 1 : i == size + 1 ? size - 2 : i - 1;
  };
  // The weight of pixel `from` of the padded side in pixel `to` of the result.
  const auto weight = [&](int64_t to, int64_t from) {
    const int64_t tap = doubles ? to + 3 - 2 * from : from - 2 * to;
    return tap < 0 || tap > 3 ? 0.0 : filter[tap] * (doubles ? 2 : 1);
  };
  for (int64_t i = 0; i < out.size() && !ctx.measuring(); ++i) {
    const int64_t column = i / x.c % out.w, row = i / x.c / out.w % out.h, image = i / out.c / out.pixels();
    double sum = 0;
    for (int64_t y = 0; y < x.h + 2; ++y)
      for (int64_t at = 0; at < x.w + 2; ++at)
        sum += weight(row, y) * weight(column, at) *
               static_cast<double>(
                   values(x)[((image * x.h + padded(y, x.h)) * x.w + padded(at, x.w)) * x.c + i % x.c]);
    values(out)[i] = static_cast<float>(sum);
  }
  return out;
}

Tensor ReferenceBackend::average_pool(ForwardContext& ctx, const Tensor& x) {
  Tensor out(ctx, x.n, (x.h + 1) / 2, (x.w + 1) / 2, x.c);
  for (int64_t i = 0; i < out.size() && !ctx.measuring(); ++i) {
    const int64_t channel = i % x.c, column = i / x.c % out.w, row = i / x.c / out.w % out.h;
    const int64_t image = i / out.c / out.pixels();
    const int64_t below = std::min(2 * row + 2, x.h), right = std::min(2 * column + 2, x.w);
    float sum = 0;
    for (int64_t y = 2 * row; y < below; ++y)
      for (int64_t at = 2 * column; at < right; ++at)
        sum += values(x)[((image * x.h + y) * x.w + at) * x.c + channel];
    values(out)[i] = sum / static_cast<float>((below - 2 * row) * (right - 2 * column));
  }
  return out;
}

void ReferenceBackend::put(ForwardContext& ctx, const float* from, const Tensor& x, int64_t first,
                           int64_t count) {
  if (!ctx.measuring()) std::copy_n(from, count * x.c, values(x) + first * x.c);
}

void ReferenceBackend::get(ForwardContext& ctx, const Tensor& x, float* to) {
  if (!ctx.measuring()) std::copy_n(values(x), x.size(), to);
}

Tensor ReferenceBackend::from_planar(ForwardContext& ctx, const float* images, int64_t n, int64_t c,
                                     int64_t h, int64_t w) {
  Tensor out(ctx, n, h, w, c);
  for (int64_t i = 0; i < out.size() && !ctx.measuring(); ++i) {
    const int64_t channel = i % c, pixel = i / c % (h * w), image = i / c / (h * w);
    values(out)[i] = images[(image * c + channel) * h * w + pixel];
  }
  return out;
}

void ReferenceBackend::to_planar(ForwardContext& ctx, const Tensor& x, float* images) {
  for (int64_t i = 0; i < x.size() && !ctx.measuring(); ++i) {
    const int64_t channel = i % x.c, pixel = i / x.c % x.pixels(), image = i / x.c / x.pixels();
    images[(image * x.c + channel) * x.pixels() + pixel] = values(x)[i];
  }
}

Tensor ReferenceBackend::read_planes(ForwardContext& ctx, const PlanarSource& source, Rows rows) {
  const auto [h, w, c] = source.shape;
  Tensor out(ctx, 1, rows.count(), w, c);
  for (int64_t i = 0; i < out.size() && !ctx.measuring(); ++i) {
    const int64_t channel = i % c, column = i / c % w, row = rows.begin + i / c / w;
    values(out)[i] = source.data[(channel * h + row) * w + column] * source.scale + source.shift;
  }
  return out;
}

void ReferenceBackend::write_planes(ForwardContext& ctx, const Tensor& x, int64_t first, Rows rows,
                                    const PlanarTarget& target) {
  for (int64_t y = rows.begin; y < rows.end && !ctx.measuring(); ++y)
    for (int64_t i = 0; i < x.w * x.c; ++i)
      target.data[(i % x.c * target.height + y) * x.w + i / x.c] =
          values(x)[(y - first) * x.w * x.c + i] * target.scale + target.shift;
}

void ReferenceBackend::store_rows(ForwardContext& ctx, const Tensor& x, int64_t first, Rows rows,
                                  const StoredRows& to) {
  for (int64_t y = rows.begin; y < rows.end && !ctx.measuring(); ++y) {
    void* row = memory_.at(to.data + static_cast<size_t>(y) * to.row_bytes);
    for (int64_t i = 0; i < x.w * x.c; ++i) {
      const float value = values(x)[(y - first) * x.w * x.c + i];
      if (to.fp16)
        static_cast<uint16_t*>(row)[i] = float_to_half(value / 64);
      else
        static_cast<float*>(row)[i] = value;
    }
  }
}

void ReferenceBackend::load_rows(ForwardContext& ctx, const StoredRows& from, Rows rows, const Tensor& x) {
  for (int64_t y = 0; y < rows.count() && !ctx.measuring(); ++y) {
    const void* row = memory_.at(from.data + static_cast<size_t>(rows.begin + y) * from.row_bytes);
    for (int64_t i = 0; i < x.w * x.c; ++i)
      values(x)[y * x.w * x.c + i] = from.fp16 ? half_to_float(static_cast<const uint16_t*>(row)[i]) * 64
                                               : static_cast<const float*>(row)[i];
  }
}

}  // namespace nd::test
