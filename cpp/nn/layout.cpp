// Moving activations between layouts.
#include <algorithm>

#include "nn/run.h"

namespace nd {

namespace {
constexpr int64_t kRowsPerTask = 1024;
}

Feature from_planar(Run& run, const float* x, int64_t n, int64_t c, int64_t h, int64_t w) {
  Feature out(run, n, h, w, c);
  run.parallel(n, [&](int64_t image, int) {
    run.kernels.planar_to_rows(x + image * c * h * w, c, h * w, out.data() + image * c * h * w);
  });
  return out;
}

void to_planar(Run& run, const Feature& x, float* out) {
  const int64_t size = x.pixels() * x.c;
  run.parallel(x.n, [&](int64_t image, int) {
    run.kernels.rows_to_planar(x.data() + image * size, x.c, x.pixels(), out + image * size);
  });
}

Feature concat(Run& run, const Feature& a, const Feature& b) {
  Feature out(run, a.n, a.h, a.w, a.c + b.c);
  const int64_t rows = out.rows();
  run.parallel((rows + kRowsPerTask - 1) / kRowsPerTask, [&](int64_t task, int) {
    const int64_t end = std::min(rows, (task + 1) * kRowsPerTask);
    for (int64_t row = task * kRowsPerTask; row < end; ++row) {
      float* to = out.data() + row * out.c;
      std::copy_n(a.data() + row * a.c, a.c, to);
      std::copy_n(b.data() + row * b.c, b.c, to + a.c);
    }
  });
  return out;
}

}  // namespace nd
