// Moving activations: between tensors, between host and tensors, and to and from stored images.
#include <cstring>

#include "cuda/backend.h"
#include "weights/formats/half.h"

namespace nd::cuda {
namespace {

Grid threads_for(int64_t count) {
  return {pieces_of(count, kMoveThreads)};
}

Grid tiles_of(int64_t n, int64_t c, int64_t pixels) {
  return {pieces_of(pixels, kTransposeTile), pieces_of(c, kTransposeTile), n};
}

void upload(Context& ctx, Address to, const void* from, size_t bytes) {
  ctx.to_device(to, [to, from, bytes](Staging& staging) { staging.upload(to, from, bytes); });
}

void download(const Context& ctx, void* to, Address from, size_t bytes) {
  ctx.to_host([to, from, bytes](Staging& staging) { staging.download(to, from, bytes); });
}

const uint8_t* bytes_at(const float* x) {
  return reinterpret_cast<const uint8_t*>(x);
}
uint8_t* bytes_at(float* x) {
  return reinterpret_cast<uint8_t*>(x);
}

/// Calls use(plane, byte of the plane, bytes, bytes before) for each piece of bytes [at, at + count) of
/// planes that follow one another.
template <class Use>
void each_plane(size_t plane, size_t at, size_t count, const Use& use) {
  for (size_t done = 0; done < count;) {
    const size_t from = (at + done) % plane, some = std::min(plane - from, count - done);
    use((at + done) / plane, from, some, done);
    done += some;
  }
}

void store(Context& ctx, Kernel kernel, half* x, int64_t elements, const StoredRows& stored, Rows rows) {
  StoreArgs args{};
  args.x = x;
  args.stored = pointer<unsigned char>(stored.data + static_cast<size_t>(rows.begin) * stored.row_bytes);
  args.pitch = static_cast<int64_t>(stored.row_bytes);
  args.rows = narrow(rows.count());
  args.count = narrow(elements);
  args.fp16 = stored.fp16;
  ctx.launch(kernel, threads_for(rows.count() * elements), args);
}

}  // namespace

Tensor CudaBackend::concat(ForwardContext& base, const Tensor& a, const Tensor& b) {
  Context& ctx = Context::of(base);
  Tensor out(ctx, a.n, a.h, a.w, a.c + b.c);
  const bool vector = a.c % 8 == 0 && b.c % 8 == 0;
  const ConcatArgs args{data(a), data(b), data(out), out.rows(), narrow(a.c), narrow(b.c)};
  ctx.launch(Kernel::concat, threads_for(out.size() / (vector ? 8 : 1)), args);
  return out;
}

void CudaBackend::copy_rows(ForwardContext& base, const Tensor& from, int64_t from_row, const Tensor& to,
                            int64_t to_row, int64_t count) {
  // A graph may outlive its memory, until its addresses are in use again. CUDA says of kernels that they have
  // addresses, and not in so many words of copies.
  if (Context::of(base).recorder) return add_rows(base, from, from_row, to, to_row, count, 1, true);
  const size_t row = static_cast<size_t>(from.c) * element_bytes();
  Context::of(base).copy(to.address() + static_cast<size_t>(to_row) * row,
                         from.address() + static_cast<size_t>(from_row) * row,
                         static_cast<size_t>(count) * row);
}

void CudaBackend::add_rows(ForwardContext& base, const Tensor& from, int64_t from_row, const Tensor& to,
                           int64_t to_row, int64_t count, float factor, bool replaces) {
  if (count == 0) return;  // CUDA refuses empty grids
  Context& ctx = Context::of(base);
  const bool vector = from.c % 8 == 0;
  AddArgs args{};
  const size_t row = static_cast<size_t>(from.c) * element_bytes();
  args.x = pointer<half>(from.address() + static_cast<size_t>(from_row) * row);
  args.y = pointer<half>(to.address() + static_cast<size_t>(to_row) * row);
  args.count = count * from.c / (vector ? 8 : 1);
  args.factor = factor;
  args.replaces = replaces;
  args.vector = vector;
  ctx.launch(Kernel::add_rows, threads_for(args.count), args);
}

void CudaBackend::add_masked(ForwardContext& base, const Tensor& from, const Tensor& to, float factor,
                             const Tensor* mask) {
  if (!mask) return add_rows(base, from, 0, to, 0, to.rows(), factor, false);
  Context& ctx = Context::of(base);
  const bool vector = from.c % 8 == 0;
  AddArgs args{};
  args.x = data(from), args.y = data(to), args.mask = data(*mask);
  args.row = narrow(from.c / (vector ? 8 : 1)), args.pixels = narrow(from.pixels());
  args.count = from.rows() * args.row;
  args.factor = factor;
  args.vector = vector;
  ctx.launch(Kernel::add_rows, threads_for(args.count), args);
}

Tensor CudaBackend::average_pool(ForwardContext& base, const Tensor& x) {
  Context& ctx = Context::of(base);
  Tensor out(ctx, x.n, (x.h + 1) / 2, (x.w + 1) / 2, x.c);
  const PoolArgs args{data(x), data(out), out.size(), narrow(x.h), narrow(x.w), narrow(x.c)};
  ctx.launch(Kernel::average_pool, threads_for(out.size()), args);
  return out;
}

Tensor CudaBackend::resample(ForwardContext& base, const Tensor& x, Resampling how) {
  Context& ctx = Context::of(base);
  const bool twice = how == Resampling::twice;
  Tensor out(ctx, x.n, twice ? 2 * x.h : x.h / 2, twice ? 2 * x.w : x.w / 2, x.c);
  const ResampleArgs args{data(x), data(out), out.size(), narrow(x.h), narrow(x.w), narrow(x.c), twice};
  ctx.launch(Kernel::resample, threads_for(out.size()), args);
  return out;
}

void CudaBackend::put(ForwardContext& base, const float* values, const Tensor& x, int64_t first,
                      int64_t count) {
  Context& ctx = Context::of(base);
  const Address to = x.address() + static_cast<size_t>(first * x.c) * element_bytes();
  const size_t size = static_cast<size_t>(count * x.c);
  ctx.to_device(to, [values, to, size](Staging& staging) {
    staging.upload(to, size * sizeof(uint16_t), [values](uint8_t* part, size_t at, size_t count) {
      const float* from = values + at / sizeof(uint16_t);
      uint16_t* fp16 = reinterpret_cast<uint16_t*>(part);
      for (size_t i = 0; i < count / sizeof(uint16_t); ++i) fp16[i] = float_to_half(from[i]);
    });
  });
}

void CudaBackend::get(ForwardContext& base, const Tensor& x, float* values) {
  Context& ctx = Context::of(base);
  const Address from = x.address();
  const size_t size = static_cast<size_t>(x.size());
  ctx.to_host([values, from, size](Staging& staging) {
    staging.download(from, size * sizeof(uint16_t), [values](const uint8_t* part, size_t at, size_t count) {
      float* to = values + at / sizeof(uint16_t);
      const uint16_t* fp16 = reinterpret_cast<const uint16_t*>(part);
      for (size_t i = 0; i < count / sizeof(uint16_t); ++i) to[i] = half_to_float(fp16[i]);
    });
  });
}

void CudaBackend::put_elements(ForwardContext& base, const void* elements, const Tensor& x, int64_t first,
                               int64_t count) {
  upload(Context::of(base), x.address() + static_cast<size_t>(first * x.c) * element_bytes(), elements,
         static_cast<size_t>(count * x.c) * element_bytes());
}

void CudaBackend::get_elements(ForwardContext& base, const Tensor& x, void* elements) {
  download(Context::of(base), elements, x.address(), static_cast<size_t>(x.size()) * element_bytes());
}

Tensor CudaBackend::from_planar(ForwardContext& base, const float* images, int64_t n, int64_t c, int64_t h,
                                int64_t w) {
  Context& ctx = Context::of(base);
  Tensor out(ctx, n, h, w, c);
  const Scratch<float> planes(ctx, out.size());
  upload(ctx, planes.address(), images, static_cast<size_t>(out.size()) * sizeof(float));
  const PlanarArgs args{planes.data(), data(out), narrow(c), narrow(h * w), narrow(c), 1.0f, 0.0f};
  ctx.launch(Kernel::planar_to_rows, tiles_of(n, c, h * w), args);
  return out;
}

void CudaBackend::to_planar(ForwardContext& base, const Tensor& x, float* images) {
  Context& ctx = Context::of(base);
  const Scratch<float> planes(ctx, x.size());
  const PlanarArgs args{planes.data(), data(x), narrow(x.c), narrow(x.pixels()), narrow(x.c), 1.0f, 0.0f};
  ctx.launch(Kernel::rows_to_planar, tiles_of(x.n, x.c, x.pixels()), args);
  download(ctx, images, planes.address(), static_cast<size_t>(x.size()) * sizeof(float));
}

Tensor CudaBackend::read_planes(ForwardContext& base, const PlanarSource& source, Rows rows) {
  Context& ctx = Context::of(base);
  const auto [h, w, c] = source.shape;
  Tensor out(ctx, 1, rows.count(), w, c);
  const Scratch<float> planes(ctx, out.size());
  const size_t plane = static_cast<size_t>(rows.count() * w) * sizeof(float);
  // By one copy, of rows of each plane.
  ctx.to_device(planes.address(), [to = planes.address(), bytes = plane * static_cast<size_t>(c), plane,
                                   first = source.data + rows.begin * w, stride = h * w](Staging& staging) {
    staging.upload(to, bytes, [=](uint8_t* part, size_t at, size_t count) {
      each_plane(plane, at, count, [&](size_t j, size_t from, size_t some, size_t done) {
        std::memcpy(part + done, bytes_at(first + static_cast<int64_t>(j) * stride) + from, some);
      });
    });
  });
  const PlanarArgs args{planes.data(), data(out),    narrow(c),   narrow(rows.count() * w),
                        narrow(c),     source.scale, source.shift};
  ctx.launch(Kernel::planar_to_rows, tiles_of(1, c, rows.count() * w), args);
  return out;
}

void CudaBackend::write_planes(ForwardContext& base, const Tensor& x, int64_t first, Rows rows,
                               const PlanarTarget& target) {
  Context& ctx = Context::of(base);
  const int64_t pixels = rows.count() * x.w;
  const Scratch<float> planes(ctx, pixels * x.c);
  const Address begin = x.address() + static_cast<size_t>((rows.begin - first) * x.w * x.c) * element_bytes();
  const PlanarArgs args{planes.data(), pointer<half>(begin), narrow(x.c), narrow(pixels),
                        narrow(x.c),   target.scale,         target.shift};
  ctx.launch(Kernel::rows_to_planar, tiles_of(1, x.c, pixels), args);
  const size_t plane = static_cast<size_t>(pixels) * sizeof(float);
  ctx.to_host([from = planes.address(), bytes = plane * static_cast<size_t>(x.c), plane,
               first = target.data + rows.begin * x.w, stride = target.height * x.w](Staging& staging) {
    staging.download(from, bytes, [=](const uint8_t* part, size_t at, size_t count) {
      each_plane(plane, at, count, [&](size_t j, size_t to, size_t some, size_t done) {
        std::memcpy(bytes_at(first + static_cast<int64_t>(j) * stride) + to, part + done, some);
      });
    });
  });
}

void CudaBackend::store_rows(ForwardContext& base, const Tensor& x, int64_t first, Rows rows,
                             const StoredRows& to) {
  const int64_t elements = x.w * x.c;
  const Address begin = x.address() + static_cast<size_t>((rows.begin - first) * elements) * element_bytes();
  store(Context::of(base), Kernel::store_rows, pointer<half>(begin), elements, to, rows);
}

void CudaBackend::load_rows(ForwardContext& base, const StoredRows& from, Rows rows, const Tensor& x) {
  store(Context::of(base), Kernel::load_rows, data(x), x.w * x.c, from, rows);
}

}  // namespace nd::cuda
