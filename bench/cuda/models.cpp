#include "models.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <limits>
#include <map>

#include "cpu/backend.h"
#include "unet/unet.h"
#include "vae/vae.h"
#include "weights/formats/half.h"

namespace nd::cuda_bench {
namespace {

using namespace nd::cuda;

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

/// Random weights under a model's names, scaled so that activations keep their size. Tensors with as many
/// inputs share the same numbers, so that the file stays small.
class RandomWeights {
 public:
  explicit RandomWeights(const std::vector<RequiredTensor>& list)
      : path_("/tmp/node-diffusion-bench-" + std::to_string(getpid())) {
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
    std::vector<uint16_t> values;
    for (const auto& [in, size] : largest) {
      offsets[in] = offset;
      values.resize(static_cast<size_t>(size));
      const float scale = in == kGain    ? 0.1f
                          : in == kShift ? 0.1f
                                         : std::sqrt(12.0f / static_cast<float>(in));
      for (uint16_t& half : values) {
        state = state * 1664525u + 1013904223u;
        half = float_to_half((static_cast<float>(state >> 8) * 0x1p-24f - 0.5f) * scale +
                             (in == kGain ? 1.0f : 0.0f));
      }
      std::fwrite(values.data(), 2, values.size(), file);
      offset += values.size() * 2;
    }
    std::fclose(file);
    const int index = table_.add_file(path_);
    for (const RequiredTensor& tensor : list)
      table_.add(tensor.name, TensorType::f16, tensor.shape, false, index, offsets[inputs(tensor)],
                 static_cast<uint64_t>(elements(tensor)) * 2);
  }
  ~RandomWeights() { std::remove(path_.c_str()); }
  RandomWeights(const RandomWeights&) = delete;
  RandomWeights& operator=(const RandomWeights&) = delete;
  const WeightTable& table() const { return table_; }

 private:
  // In place of a number of inputs: weights of norms, and all biases.
  static constexpr int64_t kGain = -1, kShift = -2;

  static int64_t elements(const RequiredTensor& tensor) {
    int64_t count = 1;
    for (const int64_t side : tensor.shape) count *= side;
    return count;
  }
  static int64_t inputs(const RequiredTensor& tensor) {
    if (tensor.shape.size() > 1) return elements(tensor) / tensor.shape[0];
    return tensor.name.find(".bias") == std::string::npos ? kGain : kShift;
  }

  std::string path_;
  WeightTable table_;
};

/// Median of the times of calls, after two that are not counted; seconds.
template <class Call>
double median(int repetitions, const Call& call) {
  std::vector<double> times;
  for (int i = 0; i < repetitions + 2; ++i) {
    const double begin = now();
    call();
    if (i >= 2) times.push_back(now() - begin);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

double used_gigabytes(CudaBackend& backend) {
  const Device::Current current(backend.device());
  size_t free = 0, total = 0;
  backend.device().driver().memory_info(&free, &total);
  return static_cast<double>(total - free) * 1e-9;
}

/// ‖got − truth‖ / ‖truth‖
double relative_error(const std::vector<float>& got, const std::vector<float>& truth) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    difference += std::pow(static_cast<double>(got[i]) - truth[i], 2);
    norm += std::pow(static_cast<double>(truth[i]), 2);
  }
  return std::sqrt(difference / norm);
}

int repetitions_of(const Options& options) {
  return options.emulated ? 1 : options.repetitions;
}

}  // namespace

void time_unet(CudaBackend& backend, const Options& options, bool check, Report& report) {
  const int64_t s = options.shrink;
  UnetConfig config;
  config.block_channels = {320 / s, 640 / s, 1280 / s, 1280 / s};
  config.layers_per_block = {2, 2, 2, 2};
  config.down_transformer_depth = config.up_transformer_depth = {1, 1, 1, 0};
  config.heads = {8, 8, 8, 8};
  config.norm_groups = 32 / std::min<int64_t>(s, 8);
  const RandomWeights weights(required_tensors<Unet>(config));
  const double begin = now();
  Loader loader(weights.table(), backend);
  Unet unet(config, loader);
  const double loaded = now() - begin;
  for (const int64_t size : {64, 128}) {
    const int64_t n = 2, side = std::max<int64_t>(8, size / s), length = 77;
    if (options.emulated && size > 64) break;
    const std::vector<float> latents = noise(n * 4 * side * side, 1), context = noise(n * length * 768, 2);
    const float timesteps[] = {500, 500};
    std::vector<float> out(latents.size());
    const UnetInput input{latents.data(), n, side, side, {timesteps, context.data(), length}};
    const double time = median(repetitions_of(options), [&] { unet.predict(input, out.data(), nullptr); });
    Row row{"UNet, guided, " + std::to_string(8 * side) + "x" + std::to_string(8 * side),
            {{"ms", time * 1e3}, {"it_s", 1 / time}, {"gb", used_gigabytes(backend)}, {"load_s", loaded}}};
    if (check && size == 64) {
      Loader slow(weights.table(), cpu::CpuBackend::shared(), {Precision::f32});
      Unet reference(config, slow);
      std::vector<float> truth(out.size());
      reference.predict(input, truth.data(), nullptr);
      row.numbers.emplace_back("error", relative_error(out, truth));
    }
    report.add("models", row);
  }
}

void time_vae(CudaBackend& backend, const Options& options, bool check, Report& report) {
  const int64_t s = options.shrink;
  VaeConfig config;
  config.block_channels = {128 / s, 256 / s, 512 / s, 512 / s};
  config.norm_groups = 32 / std::min<int64_t>(s, 8);
  const RandomWeights weights(required_tensors<Vae>(config));
  Loader loader(weights.table(), backend);
  Vae vae(config, loader);
  const int64_t side = std::max<int64_t>(4, 64 / s);
  const std::vector<float> latents = noise(4 * side * side, 3);
  std::vector<float> out(static_cast<size_t>(3 * 64 * side * side));
  constexpr size_t kAnyMemory = std::numeric_limits<size_t>::max();
  const double time = median(repetitions_of(options), [&] {
    vae.decode(latents.data(), 1, side, side, kAnyMemory, out.data(), nullptr);
  });
  Row row{"VAE decode, " + std::to_string(8 * side) + "x" + std::to_string(8 * side),
          {{"ms", time * 1e3}, {"gb", used_gigabytes(backend)}}};
  if (check) {
    Loader slow(weights.table(), cpu::CpuBackend::shared(), {Precision::f32});
    Vae reference(config, slow);
    std::vector<float> truth(out.size());
    reference.decode(latents.data(), 1, side, side, kAnyMemory, truth.data(), nullptr);
    row.numbers.emplace_back("error", relative_error(out, truth));
  }
  report.add("models", row);
}

}  // namespace nd::cuda_bench
