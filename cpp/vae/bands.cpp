#include "vae/bands.h"

#include <algorithm>
#include <cstring>

#include "quant/half.h"

namespace nd {

namespace {

/// Halves hold x / 64: up to 4·10⁶, and 2⁻¹² of a value down to 0.004. Activations of autoencoders have left
/// the range of plain halves before.
constexpr float kUnit = 64.0f;

/// Images between two segments: x, and the residual where one is open there; a row of one follows a row of
/// the other.
struct Pair {
  Side x;
  int64_t residual = 0;  // channels

  int64_t row() const { return x.w * (x.c + residual); }
  int64_t size() const { return x.h * row(); }
};

/// A pair of whole images, somewhere in a block of memory, as floats or halves.
struct Stored {
  uint8_t* data = nullptr;
  Pair pair;
  int64_t bytes = 4;  // of one element

  Passage read(Run& run, Rows rows) const {
    Passage passage;
    passage.x = Feature(run, 1, rows.count(), pair.x.w, pair.x.c);
    if (pair.residual) passage.residual = Feature(run, 1, rows.count(), pair.x.w, pair.residual);
    run.parallel(rows.count(), [&](int64_t y, int) {
      const uint8_t* from = data + (rows.begin + y) * pair.row() * bytes;
      for (const Feature* to : {&passage.x, &passage.residual}) {
        if (!*to) continue;
        const int64_t count = to->w * to->c;
        widen(run, from, count, to->data() + y * count);
        from += count * bytes;
      }
    });
    return passage;
  }
  /// The passage's first row is row `first` of the images.
  void write(Run& run, const Passage& passage, int64_t first, Rows rows) const {
    run.parallel(rows.count(), [&](int64_t y, int) {
      uint8_t* to = data + (rows.begin + y) * pair.row() * bytes;
      for (const Feature* from : {&passage.x, &passage.residual}) {
        if (!*from) continue;
        const int64_t count = from->w * from->c;
        narrow(from->data() + (rows.begin + y - first) * count, count, to);
        to += count * bytes;
      }
    });
  }

 private:
  void widen(Run& run, const uint8_t* from, int64_t count, float* to) const {
    if (bytes == 4) {
      std::memcpy(to, from, static_cast<size_t>(count * bytes));
      return;
    }
    run.kernels.half_to_float(reinterpret_cast<const uint16_t*>(from), count, to);
    for (int64_t i = 0; i < count; ++i) to[i] *= kUnit;
  }
  void narrow(const float* from, int64_t count, uint8_t* to) const {
    if (bytes == 4) {
      std::memcpy(to, from, static_cast<size_t>(count * bytes));
      return;
    }
    uint16_t* halves = reinterpret_cast<uint16_t*>(to);
    for (int64_t i = 0; i < count; ++i) halves[i] = float_to_half(from[i] * (1.0f / kUnit));
  }
};

/// A stretch of the chain between two stored pairs.
struct Segment {
  size_t first, last;
  Pair in, out;
};

std::vector<Segment> segments(const Chain& chain, const Plan& plan, const std::vector<Side>& sides) {
  std::vector<Segment> result;
  size_t first = plan.first;
  Pair in{sides[first], 0};
  for (const size_t last : plan.cuts) {
    Pair out{sides[last], 0};
    const Link& end = chain.links()[last - 1];
    if (end.opens) out.residual = end.shortcut ? end.shortcut->out() : sides[last - 1].c;
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

/// Elements of a block in which a segment's output, written from one end, never reaches what bands to come
/// still read of its input at the other end; whichever end.
int64_t block_size(const Chain& chain, const std::vector<Side>& sides, const Segment& segment, int64_t rows) {
  const int64_t in_row = segment.in.row(), out_row = segment.out.row();
  int64_t size = std::max(segment.in.size(), segment.out.size());
  const int64_t height = segment.out.x.h, bands = band_count(height, rows);
  for (int64_t i = 0; i + 1 < bands; ++i) {
    const Rows upper = chain.input_rows(sides, segment.first, segment.last, band_at(height, rows, i));
    const Rows lower = chain.input_rows(sides, segment.first, segment.last, band_at(height, rows, i + 1));
    const int64_t cut = (i + 1) * rows;
    // From the top down, then from the bottom up.
    size = std::max(size, cut * out_row + segment.in.size() - lower.begin * in_row);
    size = std::max(size, upper.end * in_row + (height - cut) * out_row);
  }
  return size;
}

/// Elements of the one block that all stored pairs lie in.
int64_t block_size(const Chain& chain, const Plan& plan, const std::vector<Side>& sides, bool planar_source) {
  int64_t size = 0;
  const std::vector<Segment> all = segments(chain, plan, sides);
  for (size_t i = 0; i < all.size(); ++i) {
    const bool reads = i > 0 || !planar_source, writes = i + 1 < all.size();
    if (reads) size = std::max(size, all[i].in.size());
    if (reads && writes) size = std::max(size, block_size(chain, sides, all[i], plan.rows));
    if (writes) size = std::max(size, all[i].out.size());
  }
  return size;
}

class Bands {
 public:
  Bands(Run& run, const Chain& chain, const Plan& plan, const Side& input, bool planar_source)
      : run_(run),
        chain_(chain),
        plan_(plan),
        bytes_(plan.halves ? 2 : 4),
        sides_(all_sides(chain, plan, input)),
        size_(block_size(chain, plan, sides_, planar_source)),
        factors_(chain.links().size()) {}

  Feature forward(Feature x, const PlanarSource& planes, float* out) {
    const Scratch<uint8_t> block(run_, size_ * bytes_);
    block_ = block.data();
    if (x) {
      stored_ = at_end({sides_[plan_.first], 0});
      if (chain_.links()[plan_.first].norm) moments_.add(run_, x, 0, x.h);
      const Rows all{0, x.h};
      stored_.write(run_, {std::move(x), {}}, 0, all);
    } else {
      planes_ = &planes;
    }
    Feature result;
    const Side& last = sides_[plan_.last];
    if (!out) result = Feature(run_, 1, last.h, last.w, last.c);
    for (const Segment& segment : segments(chain_, plan_, sides_)) {
      take_moments(segment);
      write(segment, out, result);
    }
    return result;
  }

 private:
  /// sides()[i] is before link i of the whole chain; those before plan.first are not needed.
  static std::vector<Side> all_sides(const Chain& chain, const Plan& plan, const Side& input) {
    Chain banded(chain.rises());
    for (size_t i = plan.first; i < chain.links().size(); ++i) banded.add(chain.links()[i]);
    std::vector<Side> sides(plan.first);
    for (const Side& side : banded.sides(input)) sides.push_back(side);
    return sides;
  }

  Stored at_start(const Pair& pair) const { return {block_, pair, bytes_}; }
  Stored at_end(const Pair& pair) const { return {block_ + (size_ - pair.size()) * bytes_, pair, bytes_}; }

  /// body(rows) for each band of an image so high. All bands but those at the edges need the same memory, so
  /// a few tell it.
  template <class Body>
  void each_band(int64_t height, bool upwards, const Body& body) {
    const int64_t count = band_count(height, plan_.rows);
    for (int64_t i = 0; i < count; ++i) {
      if (run_.measuring() && i > 2 && i + 2 < count) continue;
      body(band_at(height, plan_.rows, upwards ? count - 1 - i : i));
    }
  }

  /// A band that holds `rows` behind link last − 1; `begin` receives its first row.
  Passage band(const Segment& segment, size_t last, Rows rows, bool keep_open, int64_t& begin) {
    const Rows in = chain_.input_rows(sides_, segment.first, last, rows);
    begin = chain_.output_row(segment.first, last, in.begin);
    Passage passage = planes_ ? Passage{read_planes(run_, *planes_, in), {}} : stored_.read(run_, in);
    return chain_.run(run_, std::move(passage), segment.first, last, factors_.data(), keep_open);
  }

  /// What the norms of a segment need to know about the whole image.
  void take_moments(const Segment& segment) {
    for (size_t i = segment.first; i < segment.last; ++i) {
      const GroupNorm* norm = chain_.links()[i].norm;
      if (!norm) continue;
      if (i > segment.first) {
        moments_ = ChannelMoments();
        each_band(sides_[i].h, false, [&](Rows rows) {
          int64_t begin;
          const Passage passage = band(segment, i, rows, false, begin);
          moments_.add(run_, passage.x, rows.begin - begin, rows.count());
        });
      }
      factors_[i] = norm->affine(run_, moments_);
    }
  }

  void write(const Segment& segment, float* out, Feature& result) {
    const bool ends = segment.last == plan_.last, upwards = stored_.data == block_;
    const Stored next = upwards ? at_end(segment.out) : at_start(segment.out);
    const bool watched = !ends && chain_.links()[segment.last].norm;
    moments_ = ChannelMoments();
    each_band(sides_[segment.last].h, upwards, [&](Rows rows) {
      int64_t begin;
      const Passage passage = band(segment, segment.last, rows, true, begin);
      if (watched) moments_.add(run_, passage.x, rows.begin - begin, rows.count());
      if (!ends) {
        next.write(run_, passage, begin, rows);
      } else if (out) {
        write_planes(run_, passage.x, begin, rows, sides_[segment.last].h, out);
      } else {
        const int64_t row = result.w * result.c;
        run_.parallel(rows.count(), [&](int64_t y, int) {
          std::copy_n(passage.x.data() + (rows.begin - begin + y) * row, row,
                      result.data() + (rows.begin + y) * row);
        });
      }
    });
    if (!ends) stored_ = next;
    planes_ = nullptr;
    for (size_t i = segment.first; i < segment.last; ++i) factors_[i].release();
  }

  Run& run_;
  const Chain& chain_;
  const Plan& plan_;
  const int64_t bytes_;  // of one stored element
  const std::vector<Side> sides_;
  const int64_t size_;            // elements of the block
  std::vector<Feature> factors_;  // of each link, while its segment runs
  uint8_t* block_ = nullptr;
  Stored stored_;
  const PlanarSource* planes_ = nullptr;  // what the first segment reads instead of stored_
  ChannelMoments moments_;                // of what was written last
};

}  // namespace

Feature run_in_bands(Run& run, const Chain& chain, const Plan& plan, Feature x, const PlanarSource& planes,
                     float* out) {
  const Side input = x ? Side{x.h, x.w, x.c} : planes.side;
  const bool planar = !x;
  return Bands(run, chain, plan, input, planar).forward(std::move(x), planes, out);
}

Feature read_planes(Run& run, const PlanarSource& planes, Rows rows) {
  const auto [h, w, c] = planes.side;
  Feature out(run, 1, rows.count(), w, c);
  run.parallel(rows.count(), [&, h = h, w = w, c = c](int64_t y, int) {
    for (int64_t j = 0; j < c; ++j) {
      const float* from = planes.data + (j * h + rows.begin + y) * w;
      float* to = out.data() + y * w * c + j;
      for (int64_t i = 0; i < w; ++i) to[i * c] = from[i] * planes.scale + planes.shift;
    }
  });
  return out;
}

void write_planes(Run& run, const Feature& x, int64_t first, Rows rows, int64_t height, float* out) {
  run.parallel(rows.count(), [&](int64_t y, int) {
    for (int64_t j = 0; j < x.c; ++j) {
      const float* from = x.data() + (rows.begin - first + y) * x.w * x.c + j;
      float* to = out + (j * height + rows.begin + y) * x.w;
      for (int64_t i = 0; i < x.w; ++i) to[i] = from[i * x.c];
    }
  });
}

}  // namespace nd
