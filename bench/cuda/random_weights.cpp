#include "random_weights.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <map>
#include <utility>

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

/// Whether quantizing a model changes it, see lib/quantize/rules.ts: embeddings, a UNet's first and last
/// convolution and the projection of a pooled text stay precise.
bool is_quantized(const RequiredTensor& tensor) {
  for (const char* kept : {"embedding", "text_projection", "conv_in.", "conv_out."})
    if (tensor.name.find(kept) != std::string::npos) return false;
  return true;
}

/// Models can have their weights at the same time.
std::string new_path() {
  static std::atomic<int> count{0};
  const std::string name = "node-diffusion-bench-" + std::to_string(getpid()) + "-" + std::to_string(++count);
  return (std::filesystem::temp_directory_path() / name).u8string();
}

}  // namespace

RandomWeights::RandomWeights(const std::vector<RequiredTensor>& list, TensorType type) : path_(new_path()) {
  using Kind = std::pair<int64_t, TensorType>;  // tensors of a kind share their numbers
  const auto kind_of = [&](const RequiredTensor& tensor) {
    const int64_t in = inputs(tensor);
    return Kind{in, in > 0 && in % traits(type).block == 0 && is_quantized(tensor) ? type : TensorType::f16};
  };
  std::map<Kind, int64_t> largest;  // elements
  for (const RequiredTensor& tensor : list) {
    int64_t& size = largest[kind_of(tensor)];
    size = std::max(size, elements(tensor));
  }
  FILE* file = std::fopen(path_.c_str(), "wb");
  if (!file) throw Error(ErrorCode::io, path_ + " cannot be written");
  std::map<Kind, uint64_t> offsets;
  uint64_t offset = 0;
  uint32_t state = 7;
  std::vector<float> values;
  std::vector<uint8_t> stored;
  for (const auto& [kind, size] : largest) {
    const auto [in, kept] = kind;
    offsets[kind] = offset;
    values.resize(static_cast<size_t>(size));
    const float scale = in < 0 ? 0.1f : std::sqrt(12.0f / static_cast<float>(in));
    for (float& value : values) {
      state = state * 1664525u + 1013904223u;
      value = (static_cast<float>(state >> 8) * 0x1p-24f - 0.5f) * scale + (in == kGain ? 1.0f : 0.0f);
    }
    stored.resize(static_cast<size_t>(stored_bytes(kept, size)));
    traits(kept).encode(values.data(), size, stored.data());
    std::fwrite(stored.data(), 1, stored.size(), file);
    offset += stored.size();
  }
  std::fclose(file);
  const int index = table_.add_file(path_);
  for (const RequiredTensor& tensor : list) {
    const Kind kind = kind_of(tensor);
    // As our own quantizing stores them: blocks run along the channels.
    const bool channels_last = tensor.shape.size() == 4 && kind.second != TensorType::f16;
    table_.add(tensor.name, kind.second, tensor.shape, channels_last, index, offsets[kind],
               static_cast<uint64_t>(stored_bytes(kind.second, elements(tensor))));
  }
}

RandomWeights::~RandomWeights() {
  std::remove(path_.c_str());
}

}  // namespace nd::cuda_bench
