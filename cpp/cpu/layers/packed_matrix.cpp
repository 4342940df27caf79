#include "cpu/layers/packed_matrix.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "core/os.h"
#include "cpu/layers/pack_buffer.h"

namespace nd::cpu {

namespace {

static_assert(kInt4Block == kInt4RowBlock, "kernels read int4 weights in the blocks that they are stored in");

constexpr size_t kHugePage = size_t{2} << 20;
// From this size on a matrix has a mapping of its own. Allocated memory may stay with malloc after it was
// freed: gigabytes, after an aborted load or the end of a model.
constexpr size_t kMinMapped = size_t{256} << 10;

}  // namespace

void PackedMatrix::Free::operator()(uint8_t* p) const {
  if (pages)
    os::release_pages(pages, bytes);
  else
    os::free_aligned(p);
}

PackedMatrix::PackedMatrix(const Device& device, Loader& loader, Compute compute, int64_t n,
                           const Inner& inner, RowSource source, int64_t planes)
    : compute_(compute), kernels_(&device.kernels), inner_(inner), n_(n), planes_(planes) {
  const ReducedGemm* reduced = nullptr;
  if (compute == Compute::bf16) reduced = device.kernels.bf16;
  if (compute == Compute::i8) reduced = device.kernels.i8;
  if (compute == Compute::i16) reduced = device.kernels.i16;
  if (reduced && reduced->expand_int4) int4_ = find_int4_kind(loader, source);
  const bool int4 = int4_ != Int4Kind::none;
  format_ = PixelFormat(reduced, inner.channels, int4);
  groups_ = format_.window_groups(inner, inner.taps_x);
  const int64_t group_count = static_cast<int64_t>(groups_.size());
  const int64_t nr = device.kernels.nr, panels = (n + nr - 1) / nr;
  panel_bytes_ = reduced ? reduced->panel_bytes(groups_.data(), group_count)
                         : nr * k() * static_cast<int64_t>(sizeof(float));
  plane_bytes_ = panels * panel_bytes_;
  fill_ = std::move(source.fill);
  if (loader.streams()) {
    loader.need_task_bytes({0, static_cast<size_t>(pack_floats(nr)) * sizeof(float)});
    return;
  }

  int64_t kept = bytes();
  if (int4) {
    int4_panel_bytes_ = int4_panel_bytes(nr, int4_ == Int4Kind::offset, groups_.data(), group_count);
    kept = panels * int4_panel_bytes_;
    loader.need_task_bytes({static_cast<size_t>(panel_bytes_), 0});
  }
  loader.add_packed_bytes(static_cast<size_t>(kept));
  if (loader.plans()) {
    fill_ = nullptr;
    return;
  }
  allocate(static_cast<size_t>(kept));
  device.pool.parallel_for(panels, loader.cancel(), [&](int64_t panel, int) {
    if (int4)
      pack_int4(panel, source, data_.get() + panel * int4_panel_bytes_);
    else
      pack(panel, data_.get());
  });
  fill_ = nullptr;
}

void PackedMatrix::allocate(size_t bytes) {
  if (bytes < kMinMapped) {
    data_.reset(static_cast<uint8_t*>(os::allocate_aligned(bytes)));
    if (!data_) throw std::bad_alloc();
    return;
  }
  // Large matrices are read from front to back in every forward pass: huge pages save TLB misses.
  const bool huge = bytes >= 2 * kHugePage;
  const size_t mapped = bytes + (huge ? kHugePage : 0);
  void* pages = os::allocate_pages(mapped);
  if (!pages) throw std::bad_alloc();
  uintptr_t start = reinterpret_cast<uintptr_t>(pages);
  if (huge) start = (start + kHugePage - 1) / kHugePage * kHugePage;
  data_ = {reinterpret_cast<uint8_t*>(start), Free{pages, mapped}};
  if (huge) os::prefer_huge_pages(data_.get(), bytes);
}

// Blocks run along the channels and fill rows, and groups consist of whole blocks.
Int4Kind PackedMatrix::find_int4_kind(const Loader& loader, const RowSource& source) const {
  if (!source.stored || planes_ > 1 || loader.streams()) return Int4Kind::none;
  if (inner_.channels % kInt4Block != 0) return Int4Kind::none;
  const TensorType type = source.stored(0).tensor->type;
  const int64_t row_bytes = stored_bytes(type, inner_.size());
  if (int4_kind(type) == Int4Kind::none || row_bytes < 0 || row_bytes > int64_t{WeightFile::kBuffer})
    return Int4Kind::none;
  for (int64_t row = 0; row < n_; ++row)
    if (source.stored(row).tensor->type != type) return Int4Kind::none;
  return int4_kind(type);
}

void PackedMatrix::pack_int4(int64_t panel, const RowSource& source, uint8_t* to) const {
  const int64_t nr = kernels_->nr, first = panel * nr, count = std::min(nr, n_ - first), size = inner_.size();
  const int64_t blocks = size / kInt4Block, row_floats = size / 4 + 2 * blocks;
  const PackBuffer buffer(static_cast<size_t>(count * row_floats));
  float* memory = buffer.data();
  std::vector<Int4Row> rows;
  for (int64_t i = 0; i < count; ++i) {
    const StoredRow row = source.stored(first + i);
    float *scale = memory + i * row_floats, *offset = scale + blocks;
    uint8_t* q = reinterpret_cast<uint8_t*>(offset + blocks);
    unpack_int4(row.tensor->type, row.tensor->blocks(row.begin, size), size, q, scale, offset);
    rows.push_back({q, scale, int4_ == Int4Kind::offset ? offset : nullptr});
  }
  cpu::pack_int4(rows.data(), count, nr, groups_.data(), static_cast<int64_t>(groups_.size()), to);
}

int64_t PackedMatrix::pack_floats(int64_t rows) const {
  const bool pads = format_.padded > inner_.channels;
  return rows * (planes_ * inner_.size() + (pads ? k() : 0));
}

void PackedMatrix::pack(int64_t panel, uint8_t* to) const {
  const int64_t nr = kernels_->nr, first = panel * nr, count = std::min(nr, n_ - first), size = inner_.size();
  const int64_t group_count = static_cast<int64_t>(groups_.size());
  const bool pads = format_.padded > inner_.channels;
  const PackBuffer buffer(static_cast<size_t>(pack_floats(count)));
  float *filled = buffer.data(), *padded = filled + count * planes_ * size;
  for (int64_t i = 0; i < count; ++i) fill_(first + i, filled + i * planes_ * size);
  if (pads) std::fill_n(padded, count * k(), 0.0f);
  std::vector<const float*> rows(static_cast<size_t>(count));
  for (int64_t plane = 0; plane < planes_; ++plane) {
    for (int64_t i = 0; i < count; ++i) {
      const float* row = filled + (i * planes_ + plane) * size;
      for (int64_t tap = 0; pads && tap < inner_.taps_y * inner_.taps_x; ++tap)
        std::copy_n(row + tap * inner_.channels, inner_.channels, padded + i * k() + tap * format_.padded);
      rows[static_cast<size_t>(i)] = pads ? padded + i * k() : row;
    }
    uint8_t* at = to + plane * plane_bytes_ + panel * panel_bytes_;
    if (reduced())
      reduced()->pack_panel(rows.data(), count, groups_.data(), group_count, at);
    else
      kernels_->pack_panel(rows.data(), count, k(), reinterpret_cast<float*>(at));
  }
}

Panels::Panels(Context& ctx, const PackedMatrix& matrix)
    : matrix_(matrix), read_(ctx, matrix.fill_ ? matrix.bytes() : 0), data_(matrix.data_.get()) {
  if (!matrix.fill_) return;
  const Profiled reading(ctx.profile, "streamed weights", Compute::f32);
  if (ctx.profile) ctx.profile->count_bytes(static_cast<double>(matrix.bytes()));
  data_ = read_.data();
  ctx.parallel((matrix.n_ + ctx.kernels.nr - 1) / ctx.kernels.nr,
               [&](int64_t panel, int) { matrix.pack(panel, read_.data()); });
}

const uint8_t* Panels::expand(int64_t panel) const {
  const PackedMatrix& m = matrix_;
  uint8_t* to = reinterpret_cast<uint8_t*>(
      thread_scratch(static_cast<size_t>(m.panel_bytes_) / sizeof(float), kPanelSlot));
  m.reduced()->expand_int4(m.data_.get() + panel * m.int4_panel_bytes_, m.int4_ == Int4Kind::offset,
                           m.groups_.data(), static_cast<int64_t>(m.groups_.size()), to);
  return to;
}

}  // namespace nd::cpu
