#include "cpu/layers/codebook.h"

#include <algorithm>

namespace nd::cpu {

Codebook::Codebook(const Device& device, const StoredTensor& codes)
    : nd::Codebook(codes.shape[0], codes.shape[1]),
      transposed_(static_cast<size_t>(codes.shape[0] * codes.shape[1])) {
  std::vector<float> code(static_cast<size_t>(width()));
  for (int64_t i = 0; i < size(); ++i) {
    codes.read(device.kernels.decoders, i * width(), width(), code.data());
    for (int64_t j = 0; j < width(); ++j)
      transposed_[static_cast<size_t>(j * size() + i)] = code[static_cast<size_t>(j)];
  }
}

void Codebook::quantize(ForwardContext& base, const Tensor& latents, int32_t* codes) const {
  Context& ctx = Context::of(base);
  constexpr int64_t kPixelTask = 16;
  const int64_t pixels = latents.rows(), tasks = (pixels + kPixelTask - 1) / kPixelTask;
  ctx.parallel(tasks, [&](int64_t task, int) {
    // Not an array for all threads: their number may change while this runs.
    float* distance = thread_scratch(static_cast<size_t>(size()));
    for (int64_t p = task * kPixelTask; p < std::min((task + 1) * kPixelTask, pixels); ++p) {
      std::fill_n(distance, size(), 0.0f);
      for (int64_t j = 0; j < width(); ++j) {
        const float z = data(latents)[p * width() + j];
        const float* e = transposed_.data() + j * size();
        for (int64_t i = 0; i < size(); ++i) distance[i] += (z - e[i]) * (z - e[i]);
      }
      codes[p] = static_cast<int32_t>(std::min_element(distance, distance + size()) - distance);
    }
  });
}

void Codebook::lookup(const int32_t* codes, int64_t n, int64_t pixels, float* latents) const {
  for (int64_t image = 0; image < n; ++image) {
    for (int64_t j = 0; j < width(); ++j) {
      const float* values = transposed_.data() + j * size();
      float* to = latents + (image * width() + j) * pixels;
      for (int64_t p = 0; p < pixels; ++p) to[p] = values[codes[image * pixels + p]];
    }
  }
}

}  // namespace nd::cpu
