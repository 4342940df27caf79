#include "cpu/layers/packed_matrix.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

namespace nd::cpu {

namespace {

static_assert(kInt4Block == kInt4RowBlock,
              "kernels take four-bit weights by the blocks that they are stored in");

constexpr size_t kHugePage = size_t{2} << 20;
// From this size on a matrix is mapped and not allocated: what malloc is given back it may keep for itself,
// which after an aborted load or a model that was disposed of were gigabytes.
constexpr size_t kOwnPages = size_t{256} << 10;

}  // namespace

void PackedMatrix::Free::operator()(uint8_t* p) const {
  if (pages)
    munmap(pages, bytes);
  else
    std::free(p);
}

PackedMatrix::PackedMatrix(const Device& device, Loader& loader, Compute compute, int64_t n,
                           const Inner& inner, RowSource source, int64_t planes)
    : compute_(compute),
      kernels_(&device.kernels),
      n_(n),
      padded_(inner.channels),
      planes_(planes),
      inner_(inner) {
  if (compute == Compute::bf16) low_ = device.kernels.bf16;
  if (compute == Compute::i8) low_ = device.kernels.i8;
  const int64_t nr = device.kernels.nr, panels = (n + nr - 1) / nr;
  const bool nibbles = keeps_int4(loader, source);
  group_ = padded_;
  if (low_) {
    padded_ = round_up(inner.channels, low_->multiple);
    group_ = piece_length(padded_, low_->max_group, nibbles ? kInt4Block : low_->multiple);
  }
  groups_ = groups(1);
  const int64_t group_count = static_cast<int64_t>(groups_.size());
  panel_bytes_ =
      low_ ? low_->panel_bytes(groups_.data(), group_count) : nr * k() * static_cast<int64_t>(sizeof(float));
  plane_bytes_ = panels * panel_bytes_;
  fill_ = std::move(source.fill);
  if (loader.streams()) return;

  if (nibbles) {
    int4_panel_bytes_ = int4_panel_bytes(nr, int4_ == Int4Kind::offset, groups_.data(), group_count);
    allocate(static_cast<size_t>(panels * int4_panel_bytes_));
    loader.add_packed_bytes(static_cast<size_t>(panels * int4_panel_bytes_));
  } else {
    allocate(static_cast<size_t>(bytes()));
    loader.add_packed_bytes(static_cast<size_t>(bytes()));
  }
  device.pool.parallel_for(panels, loader.cancel(), [&](int64_t panel, int) {
    if (nibbles)
      pack_int4(panel, source, data_.get() + panel * int4_panel_bytes_);
    else
      pack(panel, data_.get());
  });
  fill_ = nullptr;
}

void PackedMatrix::allocate(size_t bytes) {
  if (bytes < kOwnPages) {
    data_.reset(static_cast<uint8_t*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64)));
    if (!data_) throw std::bad_alloc();
    return;
  }
  // Large matrices are read front to back at every forward: huge pages spare the TLB.
  const bool huge = bytes >= 2 * kHugePage;
  const size_t mapped = bytes + (huge ? kHugePage : 0);
  void* pages = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) throw std::bad_alloc();
  uintptr_t start = reinterpret_cast<uintptr_t>(pages);
  if (huge) start = (start + kHugePage - 1) / kHugePage * kHugePage;
  data_ = {reinterpret_cast<uint8_t*>(start), Free{pages, mapped}};
#ifdef MADV_HUGEPAGE
  if (huge) madvise(data_.get(), bytes, MADV_HUGEPAGE);
#endif
}

// Blocks run along the channels, and a group must hold whole ones.
bool PackedMatrix::keeps_int4(const Loader& loader, const RowSource& source) {
  if (!low_ || !low_->expand_int4 || !source.stored || planes_ > 1 || loader.streams()) return false;
  if (inner_.channels % kInt4Block != 0) return false;
  const TensorType type = source.stored(0).tensor->type;
  if (int4_kind(type) == Int4Kind::none || stored_bytes(type, inner_.size()) > int64_t{WeightFile::kBuffer})
    return false;
  for (int64_t row = 0; row < n_; ++row)
    if (source.stored(row).tensor->type != type) return false;
  int4_ = int4_kind(type);
  return true;
}

void PackedMatrix::pack_int4(int64_t panel, const RowSource& source, uint8_t* to) const {
  const int64_t nr = kernels_->nr, first = panel * nr, count = std::min(nr, n_ - first), size = inner_.size();
  const int64_t blocks = size / kInt4Block, row_floats = size / 4 + 2 * blocks;
  float* memory = thread_scratch(static_cast<size_t>(count * row_floats), kPackSlot);
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

void PackedMatrix::pack(int64_t panel, uint8_t* to) const {
  const int64_t nr = kernels_->nr, first = panel * nr, count = std::min(nr, n_ - first), size = inner_.size();
  const int64_t group_count = static_cast<int64_t>(groups_.size());
  const bool pads = padded_ > inner_.channels;
  float* filled = thread_scratch(static_cast<size_t>(count * (planes_ * size + (pads ? k() : 0))), kPackSlot);
  float* padded = filled + count * planes_ * size;
  for (int64_t i = 0; i < count; ++i) fill_(first + i, filled + i * planes_ * size);
  if (pads) std::fill_n(padded, count * k(), 0.0f);
  std::vector<const float*> rows(static_cast<size_t>(count));
  for (int64_t plane = 0; plane < planes_; ++plane) {
    for (int64_t i = 0; i < count; ++i) {
      const float* row = filled + (i * planes_ + plane) * size;
      for (int64_t tap = 0; pads && tap < inner_.taps_y * inner_.taps_x; ++tap)
        std::copy_n(row + tap * inner_.channels, inner_.channels, padded + i * k() + tap * padded_);
      rows[static_cast<size_t>(i)] = pads ? padded + i * k() : row;
    }
    uint8_t* at = to + plane * plane_bytes_ + panel * panel_bytes_;
    if (low_)
      low_->pack_panel(rows.data(), count, groups_.data(), group_count, at);
    else
      kernels_->pack_panel(rows.data(), count, k(), reinterpret_cast<float*>(at));
  }
}

Panels::Panels(Context& ctx, const PackedMatrix& matrix)
    : matrix_(matrix), read_(ctx, matrix.fill_ ? matrix.bytes() : 0), data_(matrix.data_.get()) {
  if (!matrix.fill_) return;
  data_ = read_.data();
  ctx.parallel((matrix.n_ + ctx.kernels.nr - 1) / ctx.kernels.nr,
               [&](int64_t panel, int) { matrix.pack(panel, read_.data()); });
}

const uint8_t* Panels::expanded(int64_t panel) const {
  const PackedMatrix& m = matrix_;
  uint8_t* to = reinterpret_cast<uint8_t*>(
      thread_scratch(static_cast<size_t>(m.panel_bytes_) / sizeof(float), kPackSlot));
  m.low_->expand_int4(m.data_.get() + panel * m.int4_panel_bytes_, m.int4_ == Int4Kind::offset,
                      m.groups_.data(), static_cast<int64_t>(m.groups_.size()), to);
  return to;
}

std::vector<KGroup> PackedMatrix::groups(int64_t row_pixels) const {
  std::vector<KGroup> result;
  const bool scaled = low_ && low_->scale_floats > 0;
  // Without scales, neighbouring pixels of a row are one ctx.
  const int64_t pixels = scaled ? inner_.taps_x : 1, length = scaled ? padded_ : inner_.taps_x * padded_;
  const int64_t piece = scaled ? group_
                        : low_ ? piece_length(length, low_->max_group, low_->multiple)
                               : length;
  for (int64_t y = 0; y < inner_.taps_y; ++y)
    for (int64_t x = 0; x < pixels; ++x)
      for (int64_t begin = 0; begin < length; begin += piece)
        result.push_back({(y * row_pixels + x) * padded_ + begin, std::min(piece, length - begin),
                          (y * row_pixels + x) * groups_per_pixel() + begin / piece});
  return result;
}

PixelBuffer::PixelBuffer(Context& ctx, const PixelFormat& format, int64_t pixels)
    : kernels_(ctx.kernels),
      format_(format),
      pixel_bytes_(format.padded * (format.low ? format.low->element_bytes : int64_t{sizeof(float)})),
      pixel_scales_(format.low ? (format.padded + format.group - 1) / format.group * format.low->scale_floats
                               : 0),
      data_(ctx, pixels * pixel_bytes_),
      scales_(ctx, pixels * pixel_scales_) {}

void PixelBuffer::write(int64_t first, const float* x, int64_t count, const float* scale, const float* shift,
                        bool silu) const {
  uint8_t* to = data_.data() + first * pixel_bytes_;
  if (format_.low)
    format_.low->convert_rows(x, count, format_.channels, scale, shift, silu, format_.padded, format_.group,
                              to, scales_.data() + first * pixel_scales_);
  else if (scale || silu)
    kernels_.affine_rows(x, count, format_.channels, scale, shift, silu, reinterpret_cast<float*>(to));
  else
    std::memcpy(to, x, static_cast<size_t>(count * pixel_bytes_));
}

void PixelBuffer::clear(int64_t first, int64_t count) const {
  std::memset(data_.data() + first * pixel_bytes_, 0, static_cast<size_t>(count * pixel_bytes_));
  std::fill_n(scales_.data() + first * pixel_scales_, count * pixel_scales_, 0.0f);
}

}  // namespace nd::cpu
