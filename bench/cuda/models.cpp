#include "models.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "cpu/backend.h"
#include "random_weights.h"
#include "unet/unet.h"
#include "vae/vae.h"

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
  const RandomWeights weights(required_tensors<Unet>(config), options.weights);
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
    const std::string type =
        options.weights == TensorType::f16 ? "" : std::string(name_of(options.weights)) + ", ";
    Row row{"UNet, " + type + "guided, " + std::to_string(8 * side) + "x" + std::to_string(8 * side),
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
