// CUDA graphs of ControlNets, and of UNets with what ControlNets, ControlLLLites, T2I- and IP-Adapters have
// left in the GPU's memory: the same bits as when every kernel is launched, one launch a step.
#include <iterator>
#include <utility>

#include "control/control_lllite.h"
#include "control/control_net.h"
#include "driver.h"
#include "fixture_models.h"
#include "nn/resident.h"
#include "random_model.h"
#include "support.h"
#include "unet/unet.h"

namespace nd::cuda_test {
namespace {

constexpr int64_t kSide = 4, kLength = 5, kWidth = 16;

UnetConfig config() {
  UnetConfig config;
  config.block_channels = {8, 16};
  config.layers_per_block = {1, 1};
  config.down_transformer_depth = config.up_transformer_depth = {1, 0};
  config.heads = {2, 2};
  config.context_width = kWidth;
  config.norm_groups = 4;
  return config;
}

template <class Model, class Config>
std::unique_ptr<Model> load(Backend& on, const char* file, const Config& config) {
  WeightTable table;
  add_safetensors(table,
                  std::string(ND_FIXTURES) + "/control/" + file + "/diffusion_pytorch_model.safetensors");
  Loader loader(table, on, {Precision::f32});
  return std::make_unique<Model>(config, loader);
}

std::unique_ptr<Unet> load_unet(Backend& on = backend()) {
  return load<Unet>(on, "sd1/unet", config());
}

std::unique_ptr<ControlNet> load_net(Backend& on, const char* name) {
  ControlNetConfig net;
  net.unet = config();
  net.image_widths = {4, 6, 8};
  return load<ControlNet>(on, name, net);
}

/// The numbers of one step of n rows.
struct Numbers {
  std::vector<float> latents, context, timesteps;

  Numbers(int64_t n, const std::string& seed)
      : latents(noise("latents " + seed, n * 4 * kSide * kSide)),
        context(noise("context", n * kLength * kWidth)),
        timesteps(static_cast<size_t>(n), seed == "a" ? 900.0f : 400.0f) {}
  UnetInput input() const {
    return {latents.data(),
            static_cast<int64_t>(timesteps.size()),
            kSide,
            kSide,
            {timesteps.data(), context.data(), kLength}};
  }
};

/// One image's latents for all rows.
Numbers repeated(int64_t n, const std::string& seed) {
  Numbers numbers(n, seed);
  const std::vector<float> image = Numbers(1, seed).latents;
  numbers.latents.clear();
  for (int64_t i = 0; i < n; ++i) numbers.latents.insert(numbers.latents.end(), image.begin(), image.end());
  return numbers;
}

std::vector<float> predict(Unet& unet, const UnetInput& input) {
  std::vector<float> out(static_cast<size_t>(input.n * 4 * kSide * kSide));
  unet.predict(input, out.data(), nullptr);
  return out;
}

/// Two ControlNets and their UNet: the first guides all rows, the second the last one, with another scale.
struct Controlled {
  std::unique_ptr<ControlNet> first, second;
  std::unique_ptr<Unet> unet;
  KeptTensors picture, other;

  explicit Controlled(Backend& on = backend())
      : first(load_net(on, "sd1-a")), second(load_net(on, "sd1-b")), unet(load_unet(on)) {
    embed("picture");
  }
  void embed(const std::string& seed) {
    const std::vector<float> pixels = noise(seed, 3 * 16 * kSide * kSide);
    first->embed({pixels.data(), 1, kSide, kSide}, picture, nullptr);
    second->embed({pixels.data(), 1, kSide, kSide}, other, nullptr);
  }
  /// Launches every kernel of the next step by itself.
  void forget() const {
    first->trim();
    second->trim();
    unet->trim();
  }
  std::vector<float> step(KeptTensors& residuals, int64_t n, const std::string& seed, float scale) const {
    const Numbers numbers(n, seed);
    ControlInput input;
    input.unet = numbers.input();
    input.pictures = {{&picture}};
    input.scales.assign(static_cast<size_t>(first->residuals()), scale);
    input.residuals = &residuals;
    input.total = n;
    first->predict(input, nullptr);
    const Numbers last(1, seed);
    input.unet = last.input();
    input.pictures = {{&other}};
    input.first = n - 1;
    input.replaces = false;
    second->predict(input, nullptr);
    UnetInput given = numbers.input();
    given.conditioning.residuals = &residuals;
    return predict(*unet, given);
  }
  /// A step of two rows that repeat one image's latents, which are on the host or resident.
  std::vector<float> step_of_one(KeptTensors& residuals, const std::string& seed, float scale,
                                 ResidentTensors* resident) const {
    const Numbers both = repeated(2, seed), last(1, seed);
    // Each call has a program of its own, as in a run.
    const auto given = [&](const Numbers& numbers) {
      UnetInput input = numbers.input();
      if (!resident) return input;
      ResidentOperation copy;
      copy.out = ResidentTensors::kInput;
      copy.terms = {{1, 4}};
      resident->stage({{{4, last.latents}}, {copy}, {}});
      input.resident = resident;
      return input;
    };
    ControlInput input;
    input.unet = given(both);
    input.pictures = {{&picture}};
    input.scales.assign(static_cast<size_t>(first->residuals()), scale);
    input.residuals = &residuals;
    input.total = 2;
    first->predict(input, nullptr);
    input.unet = given(last);
    input.pictures = {{&other}};
    input.first = 1;
    input.replaces = false;
    second->predict(input, nullptr);
    UnetInput of_unet = given(both);
    of_unet.conditioning.residuals = &residuals;
    if (!resident) return predict(*unet, of_unet);
    unet->predict(of_unet, nullptr, nullptr);
    std::vector<float> out(both.latents.size());
    resident->read({}, {ResidentTensors::kPrediction, ResidentTensors::kPrediction + 1}, out.data(), nullptr);
    return out;
  }
};

struct Step {
  int run;
  int64_t n;
  const char* latents;
  float scale;
};

void control_nets() {
  test::test("cuda/graph ControlNets give what they give by themselves", [] {
    const Controlled nets, alone;
    KeptTensors residuals[2], residuals_alone[2];
    std::vector<float> before;
    // Other latents, another scale, another batch in the same place, another run, and back.
    const Step steps[] = {{0, 2, "a", 1}, {0, 2, "b", 1},    {0, 2, "b", 0.5f}, {0, 1, "a", 0.5f},
                          {0, 2, "b", 1}, {1, 2, "a", 0.5f}, {0, 2, "a", 1},    {1, 2, "b", 0.5f},
                          {1, 2, "b", 1}, {0, 2, "a", 1}};
    for (const auto& [run, n, latents, scale] : steps) {
      alone.forget();
      const std::vector<float> got = nets.step(residuals[run], n, latents, scale),
                               expected = alone.step(residuals_alone[run], n, latents, scale);
      if (!same(got, expected)) return std::string("it differs for ") + latents + ", scale " + text(scale);
      if (same(got, before)) return std::string("nothing changes with ") + latents + ", scale " + text(scale);
      before = got;
    }
    return std::string();
  });
  if (checks_kernels_alone()) return;
  test::test("cuda/graph ControlNets see resident latents", [] {
    const Controlled nets, on_host;
    KeptTensors residuals, expected_residuals;
    std::shared_ptr<ResidentTensors> resident;
    std::vector<float> before;
    for (int step = 0; step < 8; ++step) {
      // Another run. These models have no further input channels, whatever another one of the run has.
      if (step % 5 == 0) resident = backend().resident(1, 4 * kSide * kSide, 7);
      const std::string seed = step % 2 == 0 ? "a" : "b";
      const float scale = step < 3 ? 1.0f : 0.5f;
      const std::vector<float> got = nets.step_of_one(residuals, seed, scale, resident.get()),
                               expected = on_host.step_of_one(expected_residuals, seed, scale, nullptr);
      if (!same(got, expected)) return "step " + std::to_string(step) + " differs";
      if (same(got, before)) return "nothing changes in step " + std::to_string(step);
      before = got;
    }
    return std::string();
  });
  if (on_hardware()) return;
  test::test("cuda/graph each step with ControlNets is one launch of each model", [] {
    const Controlled nets;
    KeptTensors residuals;
    nets.step(residuals, 2, "a", 1);
    nets.step(residuals, 2, "b", 1);
    const emu::DriverCounts before = emu::driver_counts;
    nets.step(residuals, 2, "a", 1);
    const emu::DriverCounts after = emu::driver_counts;
    if (after.graph_launches != before.graph_launches + 3) return std::string("no graph");
    return std::string(after.graphs == before.graphs ? "" : "another graph");
  });
}

/// Fills kept tensors of these shapes [n, h, w, c] with noise.
void fill(Backend& on, KeptTensors& kept, const std::vector<std::vector<int64_t>>& shapes,
          const std::string& seed) {
  for (size_t i = 0; i < shapes.size(); ++i)
    kept.expect(i, shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3]);
  Workspace(on).run(nullptr, [&](ForwardContext& ctx) {
    if (ctx.measuring()) return;
    kept.allocate(ctx);
    for (size_t i = 0; i < shapes.size(); ++i) {
      const Tensor to = kept.view(i);
      const std::vector<float> values = noise(seed + std::to_string(i), to.size());
      on.put(ctx, values.data(), to, 0, to.rows());
    }
  });
}

/// One run with a T2I-Adapter and an IP-Adapter.
struct Adapted {
  KeptTensors features, prompts;
  std::vector<ImagePrompt> images{1};

  explicit Adapted(const std::string& seed, Backend& on = backend()) {
    fill(on, features, {{1, 4, 4, 8}, {1, 2, 2, 16}}, "features " + seed);
    std::vector<std::vector<int64_t>> shapes;
    for (const int64_t inner : cross_attentions(config()).inner) shapes.push_back({1, 1, 3, 2 * inner});
    fill(on, prompts, shapes, "prompts " + seed);
    images[0].kept = &prompts;
    images[0].length = 3;
    images[0].rows = {0, 0};
  }
  std::vector<float> predict(Unet& unet, const std::string& latents, float scale, float feature_scale) {
    const Numbers numbers(2, latents);
    UnetInput input = numbers.input();
    images[0].scale = scale;
    input.conditioning.images = &images;
    input.conditioning.features = {{&features, {feature_scale, 1}, 0, 2}};
    return cuda_test::predict(unet, input);
  }
};

void adapters() {
  test::test("cuda/graph adapters give what they give by themselves", [] {
    const std::unique_ptr<Unet> unet = load_unet(), alone = load_unet();
    Adapted one("one"), two("two");
    std::vector<float> before;
    struct Call {
      Adapted* run;
      const char* latents;
      float scale, feature_scale;
    };
    for (const auto& [run, latents, scale, feature_scale] : {Call{&one, "a", 1, 1},
                                                             {&one, "b", 1, 1},
                                                             {&one, "b", 0.5f, 1},
                                                             {&one, "b", 0.5f, 2},
                                                             {&two, "b", 0.5f, 2},
                                                             {&one, "b", 0.5f, 2},
                                                             {&two, "a", 1, 1}}) {
      alone->trim();
      const std::vector<float> got = run->predict(*unet, latents, scale, feature_scale);
      if (!same(got, run->predict(*alone, latents, scale, feature_scale)))
        return std::string("it differs for ") + latents + ", scale " + text(scale);
      if (same(got, before)) return std::string("nothing changes for ") + latents + ", scale " + text(scale);
      before = got;
    }
    return std::string();
  });
  if (on_hardware() || checks_kernels_alone()) return;
  test::test("cuda/graph each step with adapters is one launch", [] {
    const std::unique_ptr<Unet> unet = load_unet();
    Adapted run("one");
    run.predict(*unet, "a", 1, 1);
    run.predict(*unet, "b", 1, 1);
    const emu::DriverCounts before = emu::driver_counts;
    run.predict(*unet, "b", 1, 1);
    const emu::DriverCounts after = emu::driver_counts;
    if (after.graph_launches != before.graph_launches + 1) return std::string("no graph");
    return std::string(after.graphs == before.graphs ? "" : "another graph");
  });
}

/// Networks of the encoder's only block of transformers, and their picture.
struct Lllite {
  std::unique_ptr<ControlLllite> net;
  KeptTensors kept;

  explicit Lllite(const std::string& seed, Backend& on = backend()) {
    ControlLlliteConfig config;
    config.condition_width = 4, config.width = 6;
    config.blocks = {{0, 8, {1, 1, 1, 1}, {4}}};
    net = test::load_random<ControlLllite>(on, config);
    const std::vector<float> picture = noise("picture " + seed, 3 * 16 * kSide * kSide);
    net->embed(picture.data(), 1, 4 * kSide, 4 * kSide, kept, nullptr);
  }
};

std::vector<float> with(Unet& unet, const char* latents, const std::vector<ChangedInputs>& inputs) {
  const Numbers numbers(2, latents);
  UnetInput input = numbers.input();
  input.conditioning.inputs = &inputs;
  return predict(unet, input);
}

void input_changes() {
  test::test("cuda/graph ControlLLLites give what they give by themselves", [&] {
    const std::unique_ptr<Unet> unet = load_unet(), alone = load_unet();
    const Lllite one("one"), two("two");
    const auto of = [](const Lllite& lllite, float scale, int64_t first, int64_t count) {
      return ChangedInputs{lllite.net.get(), &lllite.kept, scale, first, count};
    };
    const std::pair<const char*, std::vector<ChangedInputs>> calls[] = {
        {"a", {of(one, 1, 0, 2)}},
        {"b", {of(one, 1, 0, 2)}},
        {"b", {of(one, 0.5f, 0, 2)}},
        {"b", {of(one, 0.5f, 1, 1)}},
        {"b", {of(two, 0.5f, 1, 1)}},
        {"b", {of(two, 0.5f, 1, 0)}},
        {"b", {of(one, 0.5f, 0, 2), of(two, 0.5f, 1, 1)}},
        {"b", {of(one, 0.5f, 0, 2)}},
        {"a", {of(one, 1, 0, 2)}}};
    std::vector<float> before;
    for (size_t i = 0; i < std::size(calls); ++i) {
      alone->trim();
      const std::vector<float> got = with(*unet, calls[i].first, calls[i].second);
      if (!same(got, with(*alone, calls[i].first, calls[i].second)))
        return "call " + std::to_string(i) + " differs";
      if (same(got, before)) return "nothing changes with call " + std::to_string(i);
      before = got;
    }
    return std::string();
  });
  if (on_hardware() || checks_kernels_alone()) return;
  test::test("cuda/graph each step with a ControlLLLite is one launch", [&] {
    const std::unique_ptr<Unet> unet = load_unet();
    const Lllite lllite("one");
    const std::vector<ChangedInputs> inputs = {{lllite.net.get(), &lllite.kept, 1, 0, 2}};
    with(*unet, "a", inputs);
    with(*unet, "b", inputs);
    const emu::DriverCounts before = emu::driver_counts;
    with(*unet, "b", inputs);
    const emu::DriverCounts after = emu::driver_counts;
    if (after.graph_launches != before.graph_launches + 1) return std::string("no graph");
    return std::string(after.graphs == before.graphs ? "" : "another graph");
  });
}

/// Runs whose tensors lie where those of the run before did: each has other pictures, and compares its steps
/// with those of models that keep nothing.
template <class Run>
std::string in_turn(const Run& run) {
  for (const char* seed : {"one", "two", "two", "one", "two"}) {
    const std::string why = run(seed);
    if (!why.empty()) return seed + (" " + why);
  }
  return "";
}

void spare() {
  test::test("cuda/spare runs with ControlNets", [] {
    const std::unique_ptr<cuda::CudaBackend> keeping = backend_with_spare_blocks();
    Controlled nets(*keeping), alone;
    return in_turn([&](const std::string& seed) {
      for (Controlled* each : {&nets, &alone}) each->embed(seed);
      KeptTensors residuals, expected;
      for (const char* step : {"a", "b", "a"}) {
        alone.forget();
        if (!same(nets.step(residuals, 2, step, 1), alone.step(expected, 2, step, 1))) return step;
      }
      nets.forget();
      return "";
    });
  });
  test::test("cuda/spare runs with adapters", [] {
    const std::unique_ptr<cuda::CudaBackend> keeping = backend_with_spare_blocks();
    const std::unique_ptr<Unet> unet = load_unet(*keeping), alone = load_unet();
    return in_turn([&](const std::string& seed) {
      Adapted run(seed, *keeping), expected(seed);
      for (const char* step : {"a", "b", "a"}) {
        alone->trim();
        if (!same(run.predict(*unet, step, 1, 1), expected.predict(*alone, step, 1, 1))) return step;
      }
      unet->trim();
      return "";
    });
  });
  test::test("cuda/spare runs with ControlLLLites", [] {
    const std::unique_ptr<cuda::CudaBackend> keeping = backend_with_spare_blocks();
    const std::unique_ptr<Unet> unet = load_unet(*keeping), alone = load_unet();
    return in_turn([&](const std::string& seed) {
      const Lllite run(seed, *keeping), expected(seed);
      for (const char* step : {"a", "b", "a"}) {
        alone->trim();
        if (!same(with(*unet, step, {{run.net.get(), &run.kept, 1, 0, 2}}),
                  with(*alone, step, {{expected.net.get(), &expected.kept, 1, 0, 2}})))
          return step;
      }
      unet->trim();
      return "";
    });
  });
}

const Register suite([] {
  if (small()) return;
  if (!checks_kernels_alone()) spare();
  control_nets();
  adapters();
  input_changes();
});

}  // namespace
}  // namespace nd::cuda_test
