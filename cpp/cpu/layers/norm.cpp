#include "cpu/layers/norm.h"

#include <algorithm>
#include <cmath>

namespace nd::cpu {

namespace {
// Rows whose moments a task computes, and rows that a task normalizes. They are fixed, so that results do not
// depend on the number of threads.
constexpr int64_t kMomentRows = 512;
constexpr int64_t kTaskRows = 256;
constexpr int64_t kTaskChannels = 32;
}  // namespace

void ChannelMoments::add(ForwardContext& base, const Tensor& x, int64_t first, int64_t rows) {
  Context& ctx = Context::of(base);
  const int64_t pixels = rows * x.w, pieces = (pixels + kMomentRows - 1) / kMomentRows, c = x.c;
  const Tensor partial(ctx, pieces, 1, 2, c);
  if (ctx.measuring()) return;
  const auto length = [&](int64_t piece) { return std::min(kMomentRows, pixels - piece * kMomentRows); };
  ctx.parallel(pieces, [&](int64_t piece, int) {
    float* moments = data(partial) + piece * 2 * c;
    ctx.kernels.channel_moments(data(x) + (first * x.w + piece * kMomentRows) * c, length(piece), c, moments,
                                moments + c);
  });
  channels_.resize(static_cast<size_t>(c));
  ctx.parallel((c + kTaskChannels - 1) / kTaskChannels, [&](int64_t task, int) {
    const int64_t end = std::min(c, (task + 1) * kTaskChannels);
    for (int64_t piece = 0; piece < pieces; ++piece) {
      const float* part = data(partial) + piece * 2 * c;
      for (int64_t j = task * kTaskChannels; j < end; ++j)
        channels_[static_cast<size_t>(j)].add(static_cast<double>(length(piece)), part[j], part[c + j]);
    }
  });
}

Tensor GroupNorm::affine(ForwardContext& base, const Tensor& x) const {
  Context& ctx = Context::of(base);
  const Profiled layer(ctx.profile, "group norm", Compute::f32);
  Tensor out(ctx, x.n, 1, 2, x.c);
  const int64_t pixels = x.pixels(), bands = (pixels + kMomentRows - 1) / kMomentRows, c = x.c;
  Tensor partial(ctx, x.n, bands, 2, c);
  ctx.parallel(x.n * bands, [&](int64_t task, int) {
    const int64_t image = task / bands, first = task % bands * kMomentRows;
    float* moments = data(partial) + task * 2 * c;
    ctx.kernels.channel_moments(data(x) + (image * pixels + first) * c, std::min(kMomentRows, pixels - first),
                                c, moments, moments + c);
  });
  ctx.parallel(x.n * groups_, [&](int64_t task, int) {
    const int64_t image = task / groups_, width = c / groups_, first = task % groups_ * width;
    Moments moments;
    for (int64_t band = 0; band < bands; ++band) {
      const float* part = data(partial) + (image * bands + band) * 2 * c;
      const double rows = static_cast<double>(std::min(kMomentRows, pixels - band * kMomentRows));
      for (int64_t j = first; j < first + width; ++j) moments.add(rows, part[j], part[c + j]);
    }
    float* scale = data(out) + image * 2 * c;
    write_factors(moments, first, width, scale, scale + c);
  });
  return out;
}

Tensor GroupNorm::affine(ForwardContext& ctx, const nd::ChannelMoments& image) const {
  const int64_t c = static_cast<int64_t>(weights_.gamma.size()), width = c / groups_;
  Tensor out(ctx, 1, 1, 2, c);
  if (ctx.measuring()) return out;
  const std::vector<Moments>& channels = static_cast<const ChannelMoments&>(image).channels();
  for (int64_t first = 0; first < c; first += width) {
    Moments group;
    for (int64_t j = first; j < first + width; ++j) {
      const Moments& channel = channels[static_cast<size_t>(j)];
      group.add(channel.count, channel.mean, channel.m2);
    }
    write_factors(group, first, width, data(out), data(out) + c);
  }
  return out;
}

void GroupNorm::write_factors(const Moments& group, int64_t first, int64_t width, float* scale,
                              float* shift) const {
  const double inverse = 1.0 / std::sqrt(group.m2 / group.count + eps_);
  for (int64_t j = first; j < first + width; ++j) {
    const double g = weights_.gamma[static_cast<size_t>(j)] * inverse;
    scale[j] = static_cast<float>(g);
    shift[j] = static_cast<float>(weights_.beta[static_cast<size_t>(j)] - group.mean * g);
  }
}

Tensor GroupNorm::forward(ForwardContext& base, const Tensor& x, bool silu) const {
  Context& ctx = Context::of(base);
  const Profiled layer(ctx.profile, "group norm", Compute::f32);
  const Tensor factors = affine(base, x);
  Tensor out(ctx, x.n, x.h, x.w, x.c);
  const int64_t pixels = x.pixels(), tasks = (pixels + kTaskRows - 1) / kTaskRows, c = x.c;
  ctx.parallel(x.n * tasks, [&](int64_t task, int) {
    const int64_t image = task / tasks, first = task % tasks * kTaskRows, at = (image * pixels + first) * c;
    const float* scale = data(factors) + image * 2 * c;
    ctx.kernels.affine_rows(data(x) + at, std::min(kTaskRows, pixels - first), c, scale, scale + c, silu,
                            data(out) + at);
  });
  return out;
}

Tensor GroupNorm::modulated(ForwardContext& base, const Tensor& x, const Tensor& modulations,
                            int64_t first_channel, Activation activation) const {
  Context& ctx = Context::of(base);
  const Profiled layer(ctx.profile, "group norm", Compute::f32);
  const Tensor factors = affine(base, x);
  const int64_t pixels = x.pixels(), tasks = (pixels + kTaskRows - 1) / kTaskRows, c = x.c;
  ctx.parallel(x.n, [&](int64_t image, int) {
    const float* modulation = data(modulations) + image * modulations.c + first_channel;
    float* scale = data(factors) + image * 2 * c;
    for (int64_t j = 0; j < c; ++j) {
      scale[j] *= 1 + modulation[j];
      scale[c + j] = scale[c + j] * (1 + modulation[j]) + modulation[c + j];
    }
  });
  Tensor out(ctx, x.n, x.h, x.w, x.c);
  ctx.parallel(x.n * tasks, [&](int64_t task, int) {
    const int64_t image = task / tasks, first = task % tasks * kTaskRows, at = (image * pixels + first) * c;
    const int64_t rows = std::min(kTaskRows, pixels - first);
    const float* scale = data(factors) + image * 2 * c;
    ctx.kernels.affine_rows(data(x) + at, rows, c, scale, scale + c, false, data(out) + at);
    ctx.kernels.activate(data(out) + at, rows * c, activation);
  });
  return out;
}

Tensor LayerNorm::forward(ForwardContext& base, const Tensor& x) const {
  Context& ctx = Context::of(base);
  const Profiled layer(ctx.profile, "layer norm", Compute::f32);
  Tensor out(ctx, x.n, x.h, x.w, x.c);
  const int64_t rows = x.rows();
  ctx.parallel((rows + kTaskRows - 1) / kTaskRows, [&](int64_t task, int) {
    const int64_t first = task * kTaskRows;
    ctx.kernels.layer_norm(data(x) + first * x.c, std::min(kTaskRows, rows - first), x.c,
                           weights_.gamma.data(), weights_.beta.data(), eps_, data(out) + first * x.c);
  });
  return out;
}

}  // namespace nd::cpu
