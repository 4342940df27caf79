#include "vae/bands.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "core/arena.h"

namespace nd {

namespace {

/// The images between two segments: x and, where a residual is open, the residual. Each row of x is followed
/// by that row of the residual.
struct Images {
  ImageShape x;
  int64_t residual = 0;  // channels

  int64_t row() const { return x.w * (x.c + residual); }
  int64_t size() const { return x.h * row(); }
};

/// Whole images, somewhere in a block of memory.
struct StoredImages {
  Address data;
  Images images;
  size_t element_bytes = 0;
  bool fp16 = false;

  /// Where rows of x begin, and where those of the residual do.
  StoredRows rows(bool residual) const {
    const size_t x_bytes = static_cast<size_t>(images.x.row()) * element_bytes;
    const size_t row_bytes = static_cast<size_t>(images.row()) * element_bytes;
    return {residual ? data + x_bytes : data, row_bytes, fp16};
  }
  Activations read(ForwardContext& ctx, Rows rows) const {
    Activations result;
    result.x = Tensor(ctx, 1, rows.count(), images.x.w, images.x.c);
    if (images.residual) result.residual = Tensor(ctx, 1, rows.count(), images.x.w, images.residual);
    ctx.backend.load_rows(ctx, this->rows(false), rows, result.x);
    if (result.residual) ctx.backend.load_rows(ctx, this->rows(true), rows, result.residual);
    return result;
  }
  /// The first row of the activations is row `first` of the images.
  void write(ForwardContext& ctx, const Activations& from, int64_t first, Rows rows) const {
    ctx.backend.store_rows(ctx, from.x, first, rows, this->rows(false));
    if (from.residual) ctx.backend.store_rows(ctx, from.residual, first, rows, this->rows(true));
  }
};

/// Links of the chain between two stored images.
struct Segment {
  size_t first, last;
  Images in, out;
};

std::vector<Segment> segments(const Chain& chain, const Plan& plan, const std::vector<ImageShape>& shapes) {
  std::vector<Segment> result;
  size_t first = plan.first;
  Images in{shapes[first], 0};
  for (const size_t last : plan.cuts) {
    Images out{shapes[last], 0};
    const Link& end = chain.links()[last - 1];
    if (end.opens_residual) out.residual = end.shortcut ? end.shortcut->out() : shapes[last - 1].c;
    result.push_back({first, last, in, out});
    in = out;
    first = last;
  }
  return result;
}

int64_t band_count(int64_t height, int64_t rows) {
  return (height + rows - 1) / rows;
}

Rows band_at(int64_t height, int64_t rows, int64_t index) {
  return {index * rows, std::min(height, (index + 1) * rows)};
}

/// Elements of a block that is large enough for a segment to write its output from one end, whichever end,
/// without overwriting the part of its input at the other end that later bands still read.
int64_t block_size(const Chain& chain, const std::vector<ImageShape>& shapes, const Segment& segment,
                   int64_t rows) {
  const int64_t in_row = segment.in.row(), out_row = segment.out.row();
  int64_t size = std::max(segment.in.size(), segment.out.size());
  const int64_t height = segment.out.x.h, bands = band_count(height, rows);
  for (int64_t i = 0; i + 1 < bands; ++i) {
    const Rows upper = chain.input_rows(shapes, segment.first, segment.last, band_at(height, rows, i));
    const Rows lower = chain.input_rows(shapes, segment.first, segment.last, band_at(height, rows, i + 1));
    const int64_t cut = (i + 1) * rows;
    // From the top down, then from the bottom up.
    size = std::max(size, cut * out_row + segment.in.size() - lower.begin * in_row);
    size = std::max(size, upper.end * in_row + (height - cut) * out_row);
  }
  return size;
}

/// Elements of the one block that holds all stored images.
int64_t block_size(const Chain& chain, const Plan& plan, const std::vector<ImageShape>& shapes,
                   bool from_host) {
  int64_t size = 0;
  const std::vector<Segment> all = segments(chain, plan, shapes);
  for (size_t i = 0; i < all.size(); ++i) {
    const bool reads = i > 0 || !from_host, writes = i + 1 < all.size();
    if (reads) size = std::max(size, all[i].in.size());
    if (reads && writes) size = std::max(size, block_size(chain, shapes, all[i], plan.rows));
    if (writes) size = std::max(size, all[i].out.size());
  }
  return size;
}

class Bands {
 public:
  Bands(ForwardContext& ctx, const Chain& chain, const Plan& plan, const ImageShape& input, bool from_host)
      : ctx_(ctx),
        chain_(chain),
        plan_(plan),
        element_bytes_(plan.fp16 ? 2 : sizeof(float)),
        shapes_(all_shapes(chain, plan, input)),
        size_(block_size(chain, plan, shapes_, from_host)),
        factors_(chain.links().size()),
        moments_(ctx.backend.channel_moments()) {}

  Tensor forward(Tensor x, const PlanarSource& source, const PlanarTarget* target) {
    const ArenaBlock block(ctx_.arena, static_cast<size_t>(size_) * element_bytes_);
    block_ = block.address();
    if (x) {
      stored_ = at_end({shapes_[plan_.first], 0});
      if (chain_.links()[plan_.first].norm) moments_->add(ctx_, x, 0, x.h);
      const Rows all{0, x.h};
      stored_.write(ctx_, {std::move(x), {}}, 0, all);
    } else {
      source_ = &source;
    }
    Tensor result;
    const ImageShape& last = shapes_[plan_.last];
    if (!target) result = Tensor(ctx_, 1, last.h, last.w, last.c);
    for (const Segment& segment : segments(chain_, plan_, shapes_)) {
      compute_factors(segment);
      write(segment, target, result);
    }
    return result;
  }

 private:
  /// Element i is the shape before link i of the whole chain; those before plan.first are not needed.
  static std::vector<ImageShape> all_shapes(const Chain& chain, const Plan& plan, const ImageShape& input) {
    Chain banded(chain.ascending());
    for (size_t i = plan.first; i < chain.links().size(); ++i) banded.add(chain.links()[i]);
    std::vector<ImageShape> shapes(plan.first);
    for (const ImageShape& shape : banded.shapes(input)) shapes.push_back(shape);
    return shapes;
  }

  StoredImages at_start(const Images& images) const { return {block_, images, element_bytes_, plan_.fp16}; }
  StoredImages at_end(const Images& images) const {
    return {block_ + static_cast<size_t>(size_ - images.size()) * element_bytes_, images, element_bytes_,
            plan_.fp16};
  }

  /// Calls body(rows) for each band of an image of this height. While measuring, a few bands are enough: all
  /// but those at the edges need the same memory, at the same places.
  template <class Body>
  void each_band(int64_t height, bool bottom_up, const Body& body) {
    const int64_t count = band_count(height, plan_.rows);
    if (ctx_.measuring()) ctx_.arena.repeat_differently();
    for (int64_t i = 0; i < count; ++i) {
      if (ctx_.measuring() && i > 2 && i + 2 < count) continue;
      body(band_at(height, plan_.rows, bottom_up ? count - 1 - i : i));
    }
  }

  /// The band that holds `rows` after link last − 1; `begin` receives its first row.
  Activations band(const Segment& segment, size_t last, Rows rows, bool keep_open, int64_t& begin) {
    const Rows in = chain_.input_rows(shapes_, segment.first, last, rows);
    begin = chain_.output_row(segment.first, last, in.begin);
    Activations activations =
        source_ ? Activations{ctx_.backend.read_planes(ctx_, *source_, in), {}} : stored_.read(ctx_, in);
    return chain_.run(ctx_, std::move(activations), segment.first, last, factors_.data(), keep_open);
  }

  /// Computes the normalization factors of a segment's norms from the whole image.
  void compute_factors(const Segment& segment) {
    for (size_t i = segment.first; i < segment.last; ++i) {
      const GroupNorm* norm = chain_.links()[i].norm;
      if (!norm) continue;
      if (i > segment.first) {
        moments_ = ctx_.backend.channel_moments();
        each_band(shapes_[i].h, false, [&](Rows rows) {
          int64_t begin;
          const Activations activations = band(segment, i, rows, false, begin);
          moments_->add(ctx_, activations.x, rows.begin - begin, rows.count());
        });
      }
      factors_[i] = norm->affine(ctx_, *moments_);
    }
  }

  void write(const Segment& segment, const PlanarTarget* target, Tensor& result) {
    const bool ends = segment.last == plan_.last, bottom_up = stored_.data == block_;
    const StoredImages next = bottom_up ? at_end(segment.out) : at_start(segment.out);
    const bool needs_moments = !ends && chain_.links()[segment.last].norm;
    moments_ = ctx_.backend.channel_moments();
    each_band(shapes_[segment.last].h, bottom_up, [&](Rows rows) {
      int64_t begin;
      const Activations activations = band(segment, segment.last, rows, true, begin);
      if (needs_moments) moments_->add(ctx_, activations.x, rows.begin - begin, rows.count());
      if (!ends) {
        next.write(ctx_, activations, begin, rows);
      } else if (target) {
        ctx_.backend.write_planes(ctx_, activations.x, begin, rows, *target);
      } else {
        ctx_.backend.copy_rows(ctx_, activations.x, (rows.begin - begin) * result.w, result,
                               rows.begin * result.w, rows.count() * result.w);
      }
    });
    if (!ends) stored_ = next;
    source_ = nullptr;
    for (size_t i = segment.first; i < segment.last; ++i) factors_[i].release();
  }

  ForwardContext& ctx_;
  const Chain& chain_;
  const Plan& plan_;
  const size_t element_bytes_;  // of what is stored
  const std::vector<ImageShape> shapes_;
  const int64_t size_;           // elements of the block
  std::vector<Tensor> factors_;  // of each link, while its segment runs
  Address block_;
  StoredImages stored_;
  const PlanarSource* source_ = nullptr;     // what the first segment reads instead of stored_
  std::unique_ptr<ChannelMoments> moments_;  // of the image that was written last
};

}  // namespace

Tensor run_in_bands(ForwardContext& ctx, const Chain& chain, const Plan& plan, Tensor x,
                    const PlanarSource& source, const PlanarTarget* target) {
  const ImageShape input = x ? ImageShape{x.h, x.w, x.c} : source.shape;
  const bool from_host = !x;
  return Bands(ctx, chain, plan, input, from_host).forward(std::move(x), source, target);
}

}  // namespace nd
