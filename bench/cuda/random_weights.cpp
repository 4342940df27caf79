#include "random_weights.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>

#include "weights/formats/traits.h"

namespace nd::cuda_bench {
namespace {

// In place of a number of inputs: weights of norms, and all biases.
constexpr int64_t kGain = -1, kShift = -2;

int64_t elements(const RequiredTensor& tensor) {
  int64_t count = 1;
  for (const int64_t side : tensor.shape) count *= side;
  return count;
}

int64_t inputs(const RequiredTensor& tensor) {
  if (tensor.shape.size() > 1) return elements(tensor) / tensor.shape[0];
  return tensor.name.find(".bias") == std::string::npos ? kGain : kShift;
}

}  // namespace

RandomWeights::RandomWeights(const std::vector<RequiredTensor>& list, TensorType type)
    : path_((std::filesystem::temp_directory_path() / ("node-diffusion-bench-" + std::to_string(getpid())))
                .u8string()) {
  const auto type_of = [&](int64_t in) {
    return in > 0 && in % traits(type).block == 0 ? type : TensorType::f16;
  };
  std::map<int64_t, int64_t> largest;  // inputs → elements
  for (const RequiredTensor& tensor : list) {
    int64_t& size = largest[inputs(tensor)];
    size = std::max(size, elements(tensor));
  }
  FILE* file = std::fopen(path_.c_str(), "wb");
  if (!file) throw Error(ErrorCode::io, path_ + " cannot be written");
  std::map<int64_t, uint64_t> offsets;
  uint64_t offset = 0;
  uint32_t state = 7;
  std::vector<float> values;
  std::vector<uint8_t> stored;
  for (const auto& [in, size] : largest) {
    offsets[in] = offset;
    values.resize(static_cast<size_t>(size));
    const float scale = in < 0 ? 0.1f : std::sqrt(12.0f / static_cast<float>(in));
    for (float& value : values) {
      state = state * 1664525u + 1013904223u;
      value = (static_cast<float>(state >> 8) * 0x1p-24f - 0.5f) * scale + (in == kGain ? 1.0f : 0.0f);
    }
    stored.resize(static_cast<size_t>(stored_bytes(type_of(in), size)));
    traits(type_of(in)).encode(values.data(), size, stored.data());
    std::fwrite(stored.data(), 1, stored.size(), file);
    offset += stored.size();
  }
  std::fclose(file);
  const int index = table_.add_file(path_);
  for (const RequiredTensor& tensor : list) {
    const int64_t in = inputs(tensor);
    // As our own quantizing stores them: blocks run along the channels.
    const bool channels_last = tensor.shape.size() == 4 && type_of(in) != TensorType::f16;
    table_.add(tensor.name, type_of(in), tensor.shape, channels_last, index, offsets[in],
               static_cast<uint64_t>(stored_bytes(type_of(in), elements(tensor))));
  }
}

RandomWeights::~RandomWeights() {
  std::remove(path_.c_str());
}

}  // namespace nd::cuda_bench
