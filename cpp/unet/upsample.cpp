#include "unet/upsample.h"

#include <algorithm>

namespace nd {
namespace {

constexpr int64_t kRowTask = 16;  // rows of pixels in one task

/// x with all but its last row (column) replaced by one row (column) of zeros, where asked for.
Feature zeros_before(Run& run, const Feature& x, bool last_row, bool last_column) {
  Feature out(run, x.n, last_row ? 2 : x.h, last_column ? 2 : x.w, x.c);
  const int64_t first = last_column ? 1 : 0;  // column that is copied
  run.parallel(out.n * out.h, [&](int64_t index, int) {
    const int64_t image = index / out.h, row = index % out.h;
    float* to = out.data() + index * out.w * x.c;
    std::fill_n(to, out.w * x.c, 0.0f);
    if (last_row && row == 0) return;
    const float* from = x.data() + ((image * x.h + row + x.h - out.h) * x.w + first + x.w - out.w) * x.c;
    std::copy_n(from, (out.w - first) * x.c, to + first * x.c);
  });
  return out;
}

}  // namespace

Upsample::Upsample(Loader& loader, const std::string& name, int64_t channels) {
  Conv2dOptions options;
  options.upsample = true;
  conv_ = Conv2d(loader, name, channels, channels, options);
}

Feature Upsample::forward(Run& run, const Feature& x, int64_t height, int64_t width) const {
  Feature doubled = conv_.forward(run, x);
  if (doubled.h == height && doubled.w == width) return doubled;
  return cut(run, x, doubled, height, width);
}

// Interpolating h pixels to 2h−1 gives the first 2h−1 of the 2h that doubling gives. The convolution that
// follows must see zeros beyond them, where the folded one has seen the last pixel's second copy. That copy's
// share is weights' last row × x's last row, and the same folded convolution computes it: over two rows,
// zeros above x's last row, output row 1 is bias + that share; row 0 sees zeros alone and is the bias.
// Columns likewise; the corner is in both shares, so its own is added back.
Feature Upsample::cut(Run& run, const Feature& x, const Feature& doubled, int64_t height,
                      int64_t width) const {
  const bool cut_row = height != doubled.h, cut_column = width != doubled.w;
  const int64_t c = doubled.c;
  Feature row_share, column_share, corner_share;
  if (cut_row) row_share = conv_.forward(run, zeros_before(run, x, true, false));
  if (cut_column) column_share = conv_.forward(run, zeros_before(run, x, false, true));
  if (cut_row && cut_column) corner_share = conv_.forward(run, zeros_before(run, x, true, true));

  Feature out(run, x.n, height, width, c);
  const int64_t tasks = (height + kRowTask - 1) / kRowTask;
  run.parallel(x.n * tasks, [&](int64_t index, int) {
    const int64_t image = index / tasks, begin = index % tasks * kRowTask;
    for (int64_t y = begin; y < std::min(begin + kRowTask, height); ++y) {
      float* to = out.data() + (image * height + y) * width * c;
      std::copy_n(doubled.data() + (image * doubled.h + y) * doubled.w * c, width * c, to);
      if (cut_row && y == height - 1) {
        const float* bias = row_share.data() + image * row_share.pixels() * c;
        const float* share = bias + row_share.w * c;
        for (int64_t i = 0; i < width * c; ++i) to[i] -= share[i] - bias[i];
      }
      if (!cut_column) continue;
      float* last = to + (width - 1) * c;
      const float* column = column_share.data() + (image * column_share.h + y) * column_share.w * c;
      for (int64_t i = 0; i < c; ++i) last[i] -= column[c + i] - column[i];
      if (!cut_row || y != height - 1) continue;
      const float* corner = corner_share.data() + image * corner_share.pixels() * c;
      for (int64_t i = 0; i < c; ++i) last[i] += corner[(corner_share.w + 1) * c + i] - corner[i];
    }
  });
  return out;
}

}  // namespace nd
