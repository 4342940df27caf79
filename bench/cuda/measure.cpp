#include "measure.h"

#include <chrono>

namespace nd::cuda_bench {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::vector<float> noise(int64_t count, uint32_t state) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = (static_cast<float>(state >> 8) * 0x1p-24f - 0.5f) * 3.4f;
  }
  return values;
}

double median_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

int repetitions_of(const Options& options) {
  return options.emulated ? 1 : options.repetitions;
}

bool wants_size(const Options& options, int64_t pixels) {
  const std::vector<int64_t>& sizes = options.sizes;
  return sizes.empty() || std::find(sizes.begin(), sizes.end(), pixels) != sizes.end();
}

std::string size_name(int64_t pixels) {
  return std::to_string(pixels) + "x" + std::to_string(pixels);
}

std::string type_name(TensorType type) {
  return type == TensorType::f16 ? "" : std::string(name_of(type)) + ", ";
}

}  // namespace nd::cuda_bench
