#include "nn/norm.h"

#include <algorithm>
#include <cmath>

namespace nd {

namespace {
// Rows whose moments are taken in one go, and rows normalised by one task. Fixed, so that results do not
// depend on the number of threads.
constexpr int64_t kMomentRows = 512;
constexpr int64_t kTaskRows = 256;
constexpr int64_t kTaskChannels = 32;
}  // namespace

void ChannelMoments::add(Run& run, const Feature& x, int64_t first, int64_t rows) {
  const int64_t pixels = rows * x.w, pieces = (pixels + kMomentRows - 1) / kMomentRows, c = x.c;
  const Feature partial(run, pieces, 1, 2, c);
  if (run.measuring()) return;
  const auto length = [&](int64_t piece) { return std::min(kMomentRows, pixels - piece * kMomentRows); };
  run.parallel(pieces, [&](int64_t piece, int) {
    float* moments = partial.data() + piece * 2 * c;
    run.kernels.channel_moments(x.data() + (first * x.w + piece * kMomentRows) * c, length(piece), c, moments,
                                moments + c);
  });
  channels_.resize(static_cast<size_t>(c));
  run.parallel((c + kTaskChannels - 1) / kTaskChannels, [&](int64_t task, int) {
    const int64_t end = std::min(c, (task + 1) * kTaskChannels);
    for (int64_t piece = 0; piece < pieces; ++piece) {
      const float* part = partial.data() + piece * 2 * c;
      for (int64_t j = task * kTaskChannels; j < end; ++j)
        channels_[static_cast<size_t>(j)].add(static_cast<double>(length(piece)), part[j], part[c + j]);
    }
  });
}

GroupNorm::GroupNorm(Loader& loader, const std::string& name, int64_t channels, int64_t groups, float eps)
    : gamma_(loader.vector(name + ".weight", channels)),
      beta_(loader.vector(name + ".bias", channels)),
      groups_(groups),
      eps_(eps) {}

Feature GroupNorm::affine(Run& run, const Feature& x) const {
  const Profiled layer(run, "group norm", Compute::f32);
  Feature out(run, x.n, 1, 2, x.c);
  const int64_t pixels = x.pixels(), bands = (pixels + kMomentRows - 1) / kMomentRows, c = x.c;
  Feature partial(run, x.n, bands, 2, c);
  run.parallel(x.n * bands, [&](int64_t task, int) {
    const int64_t image = task / bands, first = task % bands * kMomentRows;
    float* moments = partial.data() + task * 2 * c;
    run.kernels.channel_moments(x.data() + (image * pixels + first) * c,
                                std::min(kMomentRows, pixels - first), c, moments, moments + c);
  });
  run.parallel(x.n * groups_, [&](int64_t task, int) {
    const int64_t image = task / groups_, width = c / groups_, first = task % groups_ * width;
    Moments moments;
    for (int64_t band = 0; band < bands; ++band) {
      const float* part = partial.data() + (image * bands + band) * 2 * c;
      const double rows = static_cast<double>(std::min(kMomentRows, pixels - band * kMomentRows));
      for (int64_t j = first; j < first + width; ++j) moments.add(rows, part[j], part[c + j]);
    }
    float* scale = out.data() + image * 2 * c;
    write_factors(moments, first, width, scale, scale + c);
  });
  return out;
}

Feature GroupNorm::affine(Run& run, const ChannelMoments& image) const {
  const int64_t c = static_cast<int64_t>(gamma_.size()), width = c / groups_;
  Feature out(run, 1, 1, 2, c);
  if (run.measuring()) return out;
  for (int64_t first = 0; first < c; first += width) {
    Moments group;
    for (int64_t j = first; j < first + width; ++j) {
      const Moments& channel = image.channels()[static_cast<size_t>(j)];
      group.add(channel.count, channel.mean, channel.m2);
    }
    write_factors(group, first, width, out.data(), out.data() + c);
  }
  return out;
}

void GroupNorm::write_factors(const Moments& group, int64_t first, int64_t width, float* scale,
                              float* shift) const {
  const double inverse = 1.0 / std::sqrt(group.m2 / group.count + eps_);
  for (int64_t j = first; j < first + width; ++j) {
    const double g = gamma_[static_cast<size_t>(j)] * inverse;
    scale[j] = static_cast<float>(g);
    shift[j] = static_cast<float>(beta_[static_cast<size_t>(j)] - group.mean * g);
  }
}

Feature GroupNorm::forward(Run& run, const Feature& x, bool silu) const {
  const Profiled layer(run, "group norm", Compute::f32);
  const Feature factors = affine(run, x);
  Feature out(run, x.n, x.h, x.w, x.c);
  const int64_t pixels = x.pixels(), tasks = (pixels + kTaskRows - 1) / kTaskRows, c = x.c;
  run.parallel(x.n * tasks, [&](int64_t task, int) {
    const int64_t image = task / tasks, first = task % tasks * kTaskRows, at = (image * pixels + first) * c;
    const float* scale = factors.data() + image * 2 * c;
    run.kernels.affine_rows(x.data() + at, std::min(kTaskRows, pixels - first), c, scale, scale + c, silu,
                            out.data() + at);
  });
  return out;
}

LayerNorm::LayerNorm(Loader& loader, const std::string& name, int64_t channels, float eps)
    : gamma_(loader.vector(name + ".weight", channels)),
      beta_(loader.vector(name + ".bias", channels)),
      eps_(eps) {}

Feature LayerNorm::forward(Run& run, const Feature& x) const {
  const Profiled layer(run, "layer norm", Compute::f32);
  Feature out(run, x.n, x.h, x.w, x.c);
  const int64_t rows = x.rows();
  run.parallel((rows + kTaskRows - 1) / kTaskRows, [&](int64_t task, int) {
    const int64_t first = task * kTaskRows;
    run.kernels.layer_norm(x.data() + first * x.c, std::min(kTaskRows, rows - first), x.c, gamma_.data(),
                           beta_.data(), eps_, out.data() + first * x.c);
  });
  return out;
}

}  // namespace nd
