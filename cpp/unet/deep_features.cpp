#include "unet/deep_features.h"

#include <algorithm>

namespace nd {

namespace {
constexpr int64_t kRowsPerTask = 1024;
}

void DeepFeatures::keep(Run& run, const Feature& x) {
  complete_ = false;
  n_ = x.n, h_ = x.h, w_ = x.w, c_ = x.c;
  if (run.measuring()) return;
  arena_.reserve(bytes());
  data_ = static_cast<float*>(arena_.allocate(bytes()));
  run.parallel((x.rows() + kRowsPerTask - 1) / kRowsPerTask, [&](int64_t task, int) {
    const int64_t first = task * kRowsPerTask, rows = std::min(kRowsPerTask, x.rows() - first);
    std::copy_n(x.data() + first * c_, rows * c_, data_ + first * c_);
  });
}

void DeepFeatures::finish(const Origin& origin) {
  origin_ = origin;
  complete_ = true;
}

}  // namespace nd
