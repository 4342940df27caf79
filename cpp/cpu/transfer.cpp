// Transfers of activations: between tensors, between host and tensors, and to and from stored rows. On the
// CPU they are copies.
#include <algorithm>
#include <cstring>

#include "cpu/backend.h"
#include "weights/formats/half.h"

namespace nd::cpu {
namespace {

constexpr int64_t kRowsPerTask = 1024;

int64_t tasks_of(int64_t rows) {
  return (rows + kRowsPerTask - 1) / kRowsPerTask;
}

}  // namespace

Tensor CpuBackend::concat(ForwardContext& base, const Tensor& a, const Tensor& b) {
  Context& ctx = Context::of(base);
  Tensor out(ctx, a.n, a.h, a.w, a.c + b.c);
  const int64_t rows = out.rows();
  ctx.parallel(tasks_of(rows), [&](int64_t task, int) {
    const int64_t end = std::min(rows, (task + 1) * kRowsPerTask);
    for (int64_t row = task * kRowsPerTask; row < end; ++row) {
      float* to = data(out) + row * out.c;
      std::copy_n(data(a) + row * a.c, a.c, to);
      std::copy_n(data(b) + row * b.c, b.c, to + a.c);
    }
  });
  return out;
}

void CpuBackend::copy_rows(ForwardContext& base, const Tensor& from, int64_t from_row, const Tensor& to,
                           int64_t to_row, int64_t count) {
  Context& ctx = Context::of(base);
  const int64_t c = from.c;
  ctx.parallel(tasks_of(count), [&](int64_t task, int) {
    const int64_t first = task * kRowsPerTask, rows = std::min(kRowsPerTask, count - first);
    std::copy_n(data(from) + (from_row + first) * c, rows * c, data(to) + (to_row + first) * c);
  });
}

void CpuBackend::add_rows(ForwardContext& base, const Tensor& from, int64_t from_row, const Tensor& to,
                          int64_t to_row, int64_t count, float factor, bool replaces) {
  Context& ctx = Context::of(base);
  const int64_t c = from.c;
  ctx.parallel(tasks_of(count), [&](int64_t task, int) {
    const int64_t first = task * kRowsPerTask, size = std::min(kRowsPerTask, count - first) * c;
    const float* x = data(from) + (from_row + first) * c;
    float* y = data(to) + (to_row + first) * c;
    if (replaces && factor == 0)
      std::fill_n(y, size, 0.0f);
    else if (replaces)
      std::transform(x, x + size, y, [factor](float value) { return factor * value; });
    else
      std::transform(x, x + size, y, y, [factor](float value, float sum) { return sum + factor * value; });
  });
}

void CpuBackend::add_masked(ForwardContext& base, const Tensor& from, const Tensor& to, float factor,
                            const Tensor* mask) {
  if (!mask) return add_rows(base, from, 0, to, 0, to.rows(), factor, false);
  Context& ctx = Context::of(base);
  const int64_t c = from.c, rows = from.rows(), pixels = from.pixels();
  ctx.parallel(tasks_of(rows), [&](int64_t task, int) {
    const int64_t end = std::min(rows, (task + 1) * kRowsPerTask);
    for (int64_t row = task * kRowsPerTask; row < end; ++row) {
      const float strength = factor * data(*mask)[row % pixels];
      const float* x = data(from) + row * c;
      float* y = data(to) + row * c;
      std::transform(x, x + c, y, y, [strength](float value, float sum) { return sum + strength * value; });
    }
  });
}

Tensor CpuBackend::average_pool(ForwardContext& base, const Tensor& x) {
  Context& ctx = Context::of(base);
  Tensor out(ctx, x.n, (x.h + 1) / 2, (x.w + 1) / 2, x.c);
  ctx.parallel(out.n * out.h, [&](int64_t row, int) {
    const int64_t y = row % out.h, rows = std::min<int64_t>(2, x.h - 2 * y);
    const float* from = data(x) + (row / out.h * x.h + 2 * y) * x.w * x.c;
    float* to = data(out) + row * out.w * x.c;
    for (int64_t i = 0; i < out.w; ++i, from += 2 * x.c, to += x.c) {
      const int64_t columns = std::min<int64_t>(2, x.w - 2 * i);
      const float share = 1.0f / static_cast<float>(rows * columns);
      for (int64_t j = 0; j < x.c; ++j) {
        float sum = 0;
        for (int64_t dy = 0; dy < rows; ++dy)
          for (int64_t dx = 0; dx < columns; ++dx) sum += from[(dy * x.w + dx) * x.c + j];
        to[j] = share * sum;
      }
    }
  });
  return out;
}

Tensor CpuBackend::resample(ForwardContext& base, const Tensor& x, Resampling how) {
  Context& ctx = Context::of(base);
  const bool doubles = how == Resampling::twice;
  Tensor out(ctx, x.n, doubles ? 2 * x.h : x.h / 2, doubles ? 2 * x.w : x.w / 2, x.c);
  ctx.parallel(out.n * out.h, [&](int64_t row, int) {
    const ResamplingTaps down = ResamplingTaps::of(how, row % out.h);
    const float* image = data(x) + row / out.h * x.pixels() * x.c;
    float* to = data(out) + row * out.w * x.c;
    std::fill_n(to, out.w * x.c, 0.0f);
    for (int64_t i = 0; i < out.w; ++i, to += x.c) {
      const ResamplingTaps across = ResamplingTaps::of(how, i);
      for (int64_t dy = 0; dy < down.count; ++dy)
        for (int64_t dx = 0; dx < across.count; ++dx) {
          const int64_t pixel = ResamplingTaps::reflected(down.first + dy, x.h) * x.w +
                                ResamplingTaps::reflected(across.first + dx, x.w);
          const float weight = down.weights[dy] * across.weights[dx], *from = image + pixel * x.c;
          for (int64_t j = 0; j < x.c; ++j) to[j] += weight * from[j];
        }
    }
  });
  return out;
}

void CpuBackend::put(ForwardContext& ctx, const float* values, const Tensor& x, int64_t first,
                     int64_t count) {
  if (!ctx.measuring()) std::copy_n(values, count * x.c, data(x) + first * x.c);
}

void CpuBackend::get(ForwardContext& ctx, const Tensor& x, float* values) {
  if (!ctx.measuring()) std::copy_n(data(x), x.size(), values);
}

Tensor CpuBackend::from_planar(ForwardContext& base, const float* images, int64_t n, int64_t c, int64_t h,
                               int64_t w) {
  Context& ctx = Context::of(base);
  Tensor out(ctx, n, h, w, c);
  ctx.parallel(n, [&](int64_t image, int) {
    ctx.kernels.planar_to_rows(images + image * c * h * w, c, h * w, data(out) + image * c * h * w);
  });
  return out;
}

void CpuBackend::to_planar(ForwardContext& base, const Tensor& x, float* images) {
  Context& ctx = Context::of(base);
  const int64_t size = x.pixels() * x.c;
  ctx.parallel(x.n, [&](int64_t image, int) {
    ctx.kernels.rows_to_planar(data(x) + image * size, x.c, x.pixels(), images + image * size);
  });
}

Tensor CpuBackend::read_planes(ForwardContext& base, const PlanarSource& source, Rows rows) {
  Context& ctx = Context::of(base);
  const auto [h, w, c] = source.shape;
  Tensor out(ctx, 1, rows.count(), w, c);
  ctx.parallel(rows.count(), [&, h = h, w = w, c = c](int64_t y, int) {
    for (int64_t j = 0; j < c; ++j) {
      const float* from = source.data + (j * h + rows.begin + y) * w;
      float* to = data(out) + y * w * c + j;
      for (int64_t i = 0; i < w; ++i) to[i * c] = from[i] * source.scale + source.shift;
    }
  });
  return out;
}

void CpuBackend::write_planes(ForwardContext& base, const Tensor& x, int64_t first, Rows rows,
                              const PlanarTarget& target) {
  Context& ctx = Context::of(base);
  const bool plain = target.scale == 1 && target.shift == 0;
  ctx.parallel(rows.count(), [&](int64_t y, int) {
    for (int64_t j = 0; j < x.c; ++j) {
      const float* from = data(x) + (rows.begin - first + y) * x.w * x.c + j;
      float* to = target.data + (j * target.height + rows.begin + y) * x.w;
      if (plain)
        for (int64_t i = 0; i < x.w; ++i) to[i] = from[i * x.c];
      else
        for (int64_t i = 0; i < x.w; ++i) to[i] = from[i * x.c] * target.scale + target.shift;
    }
  });
}

void CpuBackend::store_rows(ForwardContext& base, const Tensor& x, int64_t first, Rows rows,
                            const StoredRows& to) {
  Context& ctx = Context::of(base);
  const int64_t count = x.w * x.c;
  ctx.parallel(rows.count(), [&](int64_t y, int) {
    const float* from = data(x) + (rows.begin + y - first) * count;
    uint8_t* row = pointer<uint8_t>(to.data + static_cast<size_t>(rows.begin + y) * to.row_bytes);
    if (!to.fp16) {
      std::memcpy(row, from, static_cast<size_t>(count) * sizeof(float));
      return;
    }
    uint16_t* to_fp16 = reinterpret_cast<uint16_t*>(row);
    for (int64_t i = 0; i < count; ++i) to_fp16[i] = float_to_half(from[i] * (1.0f / kFp16Unit));
  });
}

void CpuBackend::load_rows(ForwardContext& base, const StoredRows& from, Rows rows, const Tensor& x) {
  Context& ctx = Context::of(base);
  const int64_t count = x.w * x.c;
  ctx.parallel(rows.count(), [&](int64_t y, int) {
    const uint8_t* row = pointer<uint8_t>(from.data + static_cast<size_t>(rows.begin + y) * from.row_bytes);
    float* to = data(x) + y * count;
    if (!from.fp16) {
      std::memcpy(to, row, static_cast<size_t>(count) * sizeof(float));
      return;
    }
    ctx.kernels.decoders.half_to_float(reinterpret_cast<const uint16_t*>(row), count, to);
    for (int64_t i = 0; i < count; ++i) to[i] *= kFp16Unit;
  });
}

}  // namespace nd::cpu
