// CUDA graphs of k-diffusion's UNet: the same bits as when every kernel is launched, one launch a step.
#include "driver.h"
#include "fixture_models.h"
#include "support.h"
#include "unet/k_unet.h"

namespace nd::cuda_test {
namespace {

constexpr int64_t kLength = 9;

struct Step {
  int64_t n, h, w;
  const char *latents, *context, *condition;
  float timestep;
};

/// What may change between two calls, one after the other, and back to what was before.
constexpr Step kSteps[] = {{1, 4, 4, "a", "c", "e", 0.6f}, {1, 4, 4, "b", "c", "e", 0.4f},
                           {1, 4, 4, "a", "d", "e", 0.4f}, {1, 4, 4, "a", "d", "f", 0.4f},
                           {2, 4, 4, "a", "c", "e", 0.4f}, {1, 4, 4, "b", "c", "e", 0.4f},
                           {1, 6, 2, "a", "c", "e", 0.2f}, {2, 4, 4, "b", "d", "f", -1},
                           {1, 8, 8, "a", "c", "e", 0.1f}, {1, 4, 4, "b", "c", "e", 0.6f}};

std::unique_ptr<KUnet> load() {
  return load_model<KUnet>(backend(), kKUnetFile, k_unet_config(), nullptr, Precision::f32);
}

std::vector<float> predict(KUnet& unet, const Step& step, const CancelToken* cancel = nullptr) {
  const KUnetConfig& config = unet.config();
  const int64_t pixels = step.n * step.h * step.w;
  const std::vector<float> latents = noise(step.latents, pixels * config.in_channels),
                           context = noise(step.context, step.n * kLength * config.context_width),
                           condition = noise(step.condition, step.n * config.condition_width),
                           timesteps(static_cast<size_t>(step.n), step.timestep);
  UnetInput input{latents.data(), step.n, step.h, step.w, {timesteps.data(), context.data(), kLength}};
  input.conditioning.time_condition = condition.data();
  std::vector<float> out(static_cast<size_t>(pixels * config.out_channels));
  unet.predict(input, out.data(), cancel);
  return out;
}

const Register suite([] {
  if (small() || checks_kernels_alone()) return;
  test::test("cuda/graph steps of k-unet are those of a forward by itself", [] {
    const std::unique_ptr<KUnet> unet = load(), alone = load();
    for (size_t i = 0; i < sizeof kSteps / sizeof kSteps[0]; ++i) {
      alone->trim();
      if (!same(predict(*unet, kSteps[i]), predict(*alone, kSteps[i])))
        return "step " + std::to_string(i) + " differs";
    }
    return std::string();
  });
  test::test("cuda/graph a cancelled step of k-unet", [] {
    const std::unique_ptr<KUnet> unet = load();
    return check_cancelled([&](const CancelToken* cancel) { return predict(*unet, kSteps[1], cancel); });
  });
  if (on_hardware()) return;
  test::test("cuda/graph a step of k-unet like the one before is one launch", [] {
    const int64_t none = emu::driver_counts.graphs;
    {
      const std::unique_ptr<KUnet> unet = load();
      predict(*unet, kSteps[0]);
      predict(*unet, kSteps[1]);
      const emu::DriverCounts before = emu::driver_counts;
      // The same shapes with other latents and timesteps.
      predict(*unet, kSteps[1]);
      predict(*unet, kSteps[0]);
      const emu::DriverCounts after = emu::driver_counts;
      if (after.graph_launches != before.graph_launches + 2) return std::string("no graph");
      if (after.graphs != before.graphs) return std::string("another graph");
    }
    return std::string(emu::driver_counts.graphs == none ? "" : "a graph is left");
  });
});

}  // namespace
}  // namespace nd::cuda_test
