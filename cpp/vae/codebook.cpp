#include "vae/codebook.h"

#include <algorithm>
#include <string>

#include "core/error.h"
#include "nn/embedding.h"

namespace nd {

Codebook::Codebook(Loader& loader, const std::string& name, int64_t size, int64_t width)
    : size_(size), width_(width) {
  const Embedding codes(loader, name, size, width);
  transposed_.resize(static_cast<size_t>(size * width));
  std::vector<float> code(static_cast<size_t>(width));
  for (int64_t i = 0; i < size; ++i) {
    codes.read(loader.kernels, i, code.data());
    for (int64_t j = 0; j < width; ++j)
      transposed_[static_cast<size_t>(j * size + i)] = code[static_cast<size_t>(j)];
  }
}

void Codebook::quantize(Run& run, const float* latents, int64_t n, int64_t pixels, int32_t* codes) const {
  constexpr int64_t kPixelTask = 16;
  const int64_t tasks = (pixels + kPixelTask - 1) / kPixelTask;
  const Feature distances(run, 1, 1, run.pool.threads(), size_);
  run.parallel(n * tasks, [&](int64_t index, int thread) {
    float* distance = distances.data() + thread * size_;
    const int64_t image = index / tasks, begin = index % tasks * kPixelTask;
    for (int64_t p = begin; p < std::min(begin + kPixelTask, pixels); ++p) {
      std::fill_n(distance, size_, 0.0f);
      for (int64_t j = 0; j < width_; ++j) {
        const float z = latents[(image * width_ + j) * pixels + p];
        const float* e = transposed_.data() + j * size_;
        for (int64_t i = 0; i < size_; ++i) distance[i] += (z - e[i]) * (z - e[i]);
      }
      codes[image * pixels + p] =
          static_cast<int32_t>(std::min_element(distance, distance + size_) - distance);
    }
  });
}

void Codebook::lookup(const int32_t* codes, int64_t n, int64_t pixels, float* latents) const {
  for (int64_t i = 0; i < n * pixels; ++i) {
    if (codes[i] >= 0 && codes[i] < size_) continue;
    throw Error(ErrorCode::invalid_argument, "Expected codes between 0 and " + std::to_string(size_ - 1) +
                                                 " but received " + std::to_string(codes[i]) + " at index " +
                                                 std::to_string(i));
  }
  for (int64_t image = 0; image < n; ++image) {
    for (int64_t j = 0; j < width_; ++j) {
      const float* values = transposed_.data() + j * size_;
      float* to = latents + (image * width_ + j) * pixels;
      for (int64_t p = 0; p < pixels; ++p) to[p] = values[codes[image * pixels + p]];
    }
  }
}

}  // namespace nd
