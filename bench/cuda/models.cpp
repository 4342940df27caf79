#include "models.h"

#include <cmath>
#include <limits>

#include "conditions.h"
#include "cpu/backend.h"
#include "measure.h"
#include "model_configs.h"
#include "random_weights.h"
#include "unet/unet.h"
#include "vae/vae.h"

namespace nd::cuda_bench {
namespace {

using namespace nd::cuda;

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

}  // namespace

void time_unet(CudaBackend& backend, const Options& options, bool check, Report& report) {
  for (const std::string& name : options.models) {
    const ModelConfig model = model_config(name, options.shrink);
    const UnetConfig& config = model.unet;
    const RandomWeights weights(required_tensors<Unet>(config), options.weights);
    const double begin = now();
    Loader loader(weights.table(), backend);
    Unet unet(config, loader);
    const double loaded = now() - begin;
    for (const int64_t full : model.sides) {
      if (!wants_size(options, 8 * full)) continue;
      if (options.emulated && options.sizes.empty() && full != model.sides[0]) break;
      const int64_t n = 2, side = model.shrunk(full, options.shrink);
      const std::vector<float> latents = noise(n * config.in_channels * side * side, 1);
      const Conditions conditions(config, 8 * side);
      const float timesteps[] = {500, 500};
      std::vector<float> out(latents.size());
      const UnetInput input{latents.data(), n, side, side, conditions.view(timesteps)};
      const double time = median(repetitions_of(options), [&] { unet.predict(input, out.data(), nullptr); });
      Row row{"UNet, " + model.title + ", " + type_name(options.weights) + "guided, " + size_name(8 * side),
              {{"ms", time * 1e3}, {"it_s", 1 / time}, {"gb", used_gigabytes(backend)}, {"load_s", loaded}}};
      // The CPU takes minutes for a larger one.
      if (check && (full == 64 || options.emulated)) {
        Loader slow(weights.table(), cpu::CpuBackend::shared(), {Precision::f32});
        Unet reference(config, slow);
        std::vector<float> truth(out.size());
        reference.predict(input, truth.data(), nullptr);
        row.numbers.emplace_back("error", relative_error(out, truth));
      }
      report.add("models", row);
      report.write(options.json);
    }
  }
}

void time_vae(CudaBackend& backend, const Options& options, bool check, Report& report) {
  const ModelConfig model = stable_diffusion(options.shrink);
  const VaeConfig& config = model.vae;
  const RandomWeights weights(required_tensors<Vae>(config));
  Loader loader(weights.table(), backend);
  Vae vae(config, loader);
  const int64_t side = model.shrunk(64, options.shrink);
  const std::vector<float> latents = noise(4 * side * side, 3);
  std::vector<float> out(static_cast<size_t>(3 * 64 * side * side));
  constexpr size_t kAnyMemory = std::numeric_limits<size_t>::max();
  const double time = median(repetitions_of(options), [&] {
    vae.decode(latents.data(), 1, side, side, kAnyMemory, out.data(), nullptr);
  });
  Row row{"VAE decode, " + size_name(8 * side), {{"ms", time * 1e3}, {"gb", used_gigabytes(backend)}}};
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
