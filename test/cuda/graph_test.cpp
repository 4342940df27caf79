// Repeated forwards as CUDA graphs: the same bits as when every kernel is launched, whatever changes between
// two steps.
#include "driver.h"
#include "fixture_models.h"
#include "support.h"
#include "unet/unet.h"

namespace nd::cuda_test {
namespace {

struct Step {
  int64_t n, h, w;
  const char *latents, *context;
  float timestep;
};

std::vector<float> predict(Unet& unet, const Step& step, const CancelToken* cancel = nullptr,
                           const UnetOptions& options = {}) {
  const std::vector<float> latents = noise(step.latents, step.n * 4 * step.h * step.w),
                           context = noise(step.context, step.n * 9 * 20),
                           timesteps(static_cast<size_t>(step.n), step.timestep);
  std::vector<float> out(latents.size());
  unet.predict({latents.data(), step.n, step.h, step.w, {timesteps.data(), context.data(), 9}}, out.data(),
               cancel, options);
  return out;
}

/// A denoising run with everything that may change between two calls, and back to what was before.
constexpr Step kSteps[] = {{1, 4, 4, "a", "c", 981}, {1, 4, 4, "b", "c", 961},   {1, 4, 4, "a", "d", 961},
                           {2, 4, 4, "a", "c", 961}, {1, 4, 4, "b", "c", 961},   {1, 6, 5, "a", "c", 500},
                           {2, 4, 4, "b", "d", 20},  {1, 8, 8, "a", "c", 17.5f}, {1, 4, 4, "b", "c", 981}};

/// A call with deep features: of which run, for which step, and whether they may be reused.
struct DeepCall {
  int run;
  Step step;
  bool reuse;
};

/// What differs from the same calls of a UNet that forgets its graphs before each.
std::string against_fresh(const std::vector<DeepCall>& calls) {
  const std::unique_ptr<Unet> unet = load_fixture_unet(backend()), alone = load_fixture_unet(backend());
  DeepFeatures kept[2], kept_alone[2];
  for (size_t i = 0; i < calls.size(); ++i) {
    const auto& [run, step, reuse] = calls[i];
    alone->trim();
    const std::vector<float> got = predict(*unet, step, nullptr, {0, &kept[run], 3, reuse}),
                             expected = predict(*alone, step, nullptr, {0, &kept_alone[run], 3, reuse});
    if (!same(got, expected)) return "call " + std::to_string(i) + " differs";
  }
  return "";
}

constexpr Step kOne{1, 4, 4, "a", "c", 981}, kNext{1, 4, 4, "b", "c", 961}, kTwo{2, 4, 4, "a", "c", 500},
    kOther{1, 4, 4, "b", "c", 981}, kLarge{1, 6, 5, "a", "c", 17};

void deep_features() {
  test::test("cuda/graph deep features are those of a forward by itself", [] {
    return against_fresh(
        {{0, kOne, false}, {0, kNext, true}, {0, kOne, true}, {0, kNext, false}, {0, kOne, true}});
  });
  if (checks_kernels_alone()) return;
  test::test("cuda/graph deep features of two runs that take turns", [] {
    return against_fresh({{0, kOne, false},
                          {1, kNext, false},
                          {0, kNext, true},
                          {1, kOne, true},
                          {1, kOne, false},
                          {0, kOne, true},
                          {1, kNext, true}});
  });
  test::test("cuda/graph deep features of several sizes in one place", [] {
    return against_fresh({{0, kTwo, true},
                          {0, kOne, true},
                          {0, kNext, true},
                          {0, kTwo, true},
                          {0, kLarge, true},
                          {0, kLarge, true},
                          {0, kOne, true}});
  });
  test::test("cuda/graph deep features after a call that was cancelled", [] {
    const std::unique_ptr<Unet> unet = load_fixture_unet(backend()), alone = load_fixture_unet(backend());
    DeepFeatures kept, kept_alone;
    for (const bool reuse : {false, true, false}) predict(*unet, kOne, nullptr, {0, &kept, 3, reuse});
    CancelToken cancelled;
    cancelled.cancel();
    try {
      predict(*unet, kOther, &cancelled, {0, &kept, 3, false});
      return std::string("it was not cancelled");
    } catch (const Cancelled&) {
    }
    // They are not complete, so everything is computed.
    return std::string(same(predict(*unet, kOther, nullptr, {0, &kept, 3, true}),
                            predict(*alone, kOther, nullptr, {0, &kept_alone, 3, true}))
                           ? ""
                           : "the next one differs");
  });
  if (on_hardware()) return;
  test::test("cuda/graph each step with deep features is one launch", [] {
    const std::unique_ptr<Unet> unet = load_fixture_unet(backend());
    DeepFeatures kept;
    // A larger arena drops what was recorded before.
    for (const bool reuse : {false, true, false}) predict(*unet, kOne, nullptr, {0, &kept, 3, reuse});
    const emu::DriverCounts before = emu::driver_counts;
    for (const bool reuse : {true, false, true, true}) predict(*unet, kOne, nullptr, {0, &kept, 3, reuse});
    const emu::DriverCounts after = emu::driver_counts;
    if (after.graph_launches != before.graph_launches + 4) return std::string("no graph");
    return std::string(after.graphs == before.graphs ? "" : "another graph");
  });
}

const Register suite([] {
  if (small()) return;
  deep_features();
  if (checks_kernels_alone()) return;
  test::test("cuda/graph steps are those of a forward by itself", [] {
    const std::unique_ptr<Unet> unet = load_fixture_unet(backend()), alone = load_fixture_unet(backend());
    for (size_t i = 0; i < sizeof kSteps / sizeof kSteps[0]; ++i) {
      alone->trim();
      if (!same(predict(*unet, kSteps[i]), predict(*alone, kSteps[i])))
        return "step " + std::to_string(i) + " differs";
    }
    return std::string();
  });
  test::test("cuda/graph contexts that change places", [] {
    const std::unique_ptr<Unet> unet = load_fixture_unet(backend()), alone = load_fixture_unet(backend());
    const std::vector<float> latents = noise("a", 2 * 4 * 4 * 4), context = noise("c", 9 * 20),
                             other = noise("d", 9 * 20), timesteps(2, 500);
    std::vector<float> before;
    for (const bool swapped : {false, true, false}) {
      std::vector<float> both = swapped ? other : context;
      both.insert(both.end(), swapped ? context.begin() : other.begin(),
                  swapped ? context.end() : other.end());
      const UnetInput input{latents.data(), 2, 4, 4, {timesteps.data(), both.data(), 9}};
      std::vector<float> got(latents.size()), expected(latents.size());
      unet->predict(input, got.data(), nullptr);
      alone->trim();
      alone->predict(input, expected.data(), nullptr);
      if (!same(got, expected)) return std::string(swapped ? "swapped" : "not swapped") + ": it differs";
      if (same(got, before)) return std::string("nothing changes");
      before = got;
    }
    return std::string();
  });
  if (on_hardware()) return;
  test::test("cuda/graph a step like the one before is one launch", [] {
    const std::unique_ptr<Unet> unet = load_fixture_unet(backend());
    predict(*unet, kSteps[0]);
    predict(*unet, kSteps[1]);
    const emu::DriverCounts before = emu::driver_counts;
    predict(*unet, kSteps[1]);
    const emu::DriverCounts after = emu::driver_counts;
    if (after.graph_launches != before.graph_launches + 1) return std::string("no graph");
    if (after.graphs != before.graphs) return std::string("another graph");
    unet->trim();
    return std::string(emu::driver_counts.graphs == before.graphs - 1 ? "" : "trim() keeps the graph");
  });
  test::test("cuda/graph not many are kept, and none is left behind", [] {
    const int64_t before = emu::driver_counts.graphs;
    {
      const std::unique_ptr<Unet> unet = load_fixture_unet(backend());
      for (const Step& step : kSteps) predict(*unet, step);
      if (emu::driver_counts.graphs - before > 4)
        return std::to_string(emu::driver_counts.graphs) + " graphs";
    }
    return std::string(emu::driver_counts.graphs == before ? "" : "a graph is left");
  });
  test::test("cuda/graph a cancelled step", [] {
    const std::unique_ptr<Unet> unet = load_fixture_unet(backend());
    return check_cancelled([&](const CancelToken* cancel) { return predict(*unet, kSteps[1], cancel); });
  });
});

}  // namespace
}  // namespace nd::cuda_test
