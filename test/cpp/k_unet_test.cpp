// k-diffusion's UNet and the operations that it alone uses: on both backends, and whatever was computed
// before.
#include <algorithm>
#include <cstring>
#include <set>

#include "core/error.h"
#include "core/thread_pool.h"
#include "fixture_models.h"
#include "golden.h"
#include "harness.h"
#include "reference_backend.h"
#include "unet/k_unet.h"

namespace nd::test {
namespace {

constexpr double kTolerance = 1e-4;  // of the largest value

std::unique_ptr<KUnet> load(Backend& backend, Precision precision = Precision::f32) {
  return load_model<KUnet>(backend, kKUnetFile, k_unet_config(), nullptr, precision);
}

/// One call: a row for each image, of which `texts` names the context and the condition.
struct Call {
  std::vector<std::string> texts;
  std::vector<float> timesteps;
  int64_t h = 4, w = 6, length = 5;

  int64_t n() const { return static_cast<int64_t>(texts.size()); }
  std::vector<float> operator()(KUnet& unet, const CancelToken* cancel = nullptr) const {
    const KUnetConfig& config = unet.config();
    const std::vector<float> latents = noise("latents", n() * config.in_channels * h * w);
    std::vector<float> context, condition;
    for (const std::string& text : texts) {
      const std::vector<float> row = noise(text, length * config.context_width),
                               vector = noise(text + " pooled", config.condition_width);
      context.insert(context.end(), row.begin(), row.end());
      condition.insert(condition.end(), vector.begin(), vector.end());
    }
    UnetInput input{latents.data(), n(), h, w, {timesteps.data(), context.data(), length}};
    input.conditioning.time_condition = condition.data();
    std::vector<float> out(static_cast<size_t>(n() * config.out_channels * h * w));
    unet.predict(input, out.data(), cancel);
    return out;
  }
};

const std::vector<Call>& calls() {
  static const std::vector<Call> all = {
      {{"u", "a"}, {0.5f, 0.5f}},
      {{"a"}, {0.5f}},
      {{"u", "u", "a"}, {-1, 0.25f, 0.25f}, 2, 2},
      {{"b", "u"}, {0.5f, -1}, 4, 6, 9},
      {{"u", "a"}, {0.5f, 0.5f}},
  };
  return all;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// What `compute(backend, ctx, x)` makes of an image of h × w pixels and 5 channels, on both backends.
template <class Compute>
std::string on_both(int64_t h, int64_t w, Compute compute) {
  const std::vector<float> images = noise("images", 2 * 5 * h * w);
  ReferenceBackend reference;
  const auto run = [&](Backend& backend) {
    std::vector<float> out;
    Workspace workspace(backend);
    workspace.run(nullptr, [&](ForwardContext& ctx) {
      const Tensor y = compute(backend, ctx, backend.from_planar(ctx, images.data(), 2, 5, h, w));
      out.resize(static_cast<size_t>(y.size()));
      backend.to_planar(ctx, y, out.data());
    });
    return out;
  };
  return compare(run(backend_of()), run(reference), kTolerance);
}

void operations() {
  for (const auto& [h, w] : {std::pair<int64_t, int64_t>{2, 2}, {6, 4}, {5, 7}, {1, 8}, {3, 1}})
    for (const Resampling how : {Resampling::half, Resampling::twice}) {
      if (how == Resampling::half && std::min(h, w) < 2) continue;
      const bool halves = how == Resampling::half;
      test("k-unet/ resampling " + std::to_string(h) + "x" + std::to_string(w) +
               (halves ? " to half" : " to twice"),
           [&, h = h, w = w, how] {
             return on_both(h, w, [how](Backend& backend, ForwardContext& ctx, const Tensor& x) {
               return backend.resample(ctx, x, how);
             });
           });
    }
  for (const Activation activation : {Activation::none, Activation::gelu})
    test(std::string("k-unet/ modulated group norm") + (activation == Activation::gelu ? " with GELU" : ""),
         [&] {
           const std::vector<float> values = noise("modulations", 2 * 16);
           return on_both(17, 31, [&](Backend& backend, ForwardContext& ctx, const Tensor& x) {
             std::vector<RequiredTensor> none;
             Loader loader(none);
             NormWeights plain{std::vector<float>(5, 1.0f), std::vector<float>(5, 0.0f)};
             const auto norm = backend.group_norm(loader, plain, 1, 1e-5f);
             const Tensor modulations(ctx, 2, 1, 1, 16);
             backend.put(ctx, values.data(), modulations, 0, 2);
             return norm->modulated(ctx, x, modulations, 3, activation);
           });
         });
}

void models() {
  test("k-unet/ the same on both backends", [] {
    ReferenceBackend reference;
    const auto here = load(backend_of()), there = load(reference);
    for (const Call& call : calls()) {
      std::string why = compare(call(*here), call(*there), kTolerance);
      if (!why.empty()) return why;
    }
    return std::string();
  });
  test("k-unet/ a dry run lists the tensors of the file", [] {
    WeightTable table;
    add_component(table, std::string(ND_FIXTURES) + "/models/" + kKUnetFile);
    std::set<std::string> names;
    for (const RequiredTensor& tensor : required_tensors<KUnet>(k_unet_config())) {
      if (!names.insert(tensor.name).second) return tensor.name + " is listed twice";
      table.require(tensor.name, tensor.shape);
    }
    return std::string(names.size() == table.size() ? "" : "the file has other tensors");
  });
  for (const Precision precision : {Precision::f32, Precision::bf16, Precision::i8})
    test("k-unet/ precision " + std::to_string(static_cast<int>(precision)) +
             " does not depend on earlier calls",
         [precision] {
           const auto unet = load(backend_of(), precision), other = load(backend_of(), precision);
           for (const Call& call : calls()) {
             other->trim();
             if (!same(call(*unet), call(*other))) return std::string("differs");
           }
           return std::string();
         });
  test("k-unet/ gives the same with any number of threads", [] {
    const auto unet = load(backend_of());
    const std::vector<float> expected = calls()[0](*unet);
    ThreadPool& pool = ThreadPool::shared();
    const int threads = pool.threads();
    bool equal = true;
    for (const int count : {1, 3}) {
      pool.resize(count);
      unet->trim();
      equal = equal && same(calls()[0](*unet), expected);
    }
    pool.resize(threads);
    return std::string(equal ? "" : "differs");
  });
  test("k-unet/ gives the same after a call was cancelled at any point", [] {
    const auto unet = load(backend_of());
    const Call& call = calls()[0];
    const std::vector<float> expected = call(*unet);
    return cancel_everywhere(
        small() ? 5 : 40,
        [&](const CancelToken* token) {
          unet->trim();
          call(*unet, token);
        },
        [&] { return std::string(same(call(*unet), expected) ? "" : "differs after a cancelled call"); });
  });
  test("k-unet/ holds no more than workingBytes says, and nothing after trim", [] {
    const auto unet = load(backend_of());
    for (const Call& call : calls()) {
      unet->trim();
      if (unet->held_bytes() != 0) return std::string("held after trim");
      call(*unet);
      const size_t held = unet->held_bytes(),
                   needed = unet->working_bytes(call.n(), call.h, call.w, call.length);
      if (held == 0 || held > needed)
        return "holds " + std::to_string(held) + " of " + std::to_string(needed);
    }
    return std::string();
  });
}

void refusals() {
  const auto refused = [](const char* name, const std::function<void()>& attempt) {
    test(std::string("k-unet/ refuses ") + name, [&] {
      try {
        attempt();
        return std::string("no error");
      } catch (const Error& error) {
        return std::string(error.code() == ErrorCode::invalid_argument ? "" : "another error");
      }
    });
  };
  const auto unet = load(backend_of());
  refused("sides that cannot be halved", [&] { Call{{"a"}, {0}, 3, 4}(*unet); });
  refused("a call without a time condition", [&] {
    const std::vector<float> latents(8 * 16), context(24);
    const float timestep = 0;
    std::vector<float> out(5 * 16);
    unet->predict({latents.data(), 1, 4, 4, {&timestep, context.data(), 1}}, out.data(), nullptr);
  });
  const auto config = [&](const char* name, void (*change)(KUnetConfig&)) {
    refused(name, [change] {
      KUnetConfig config = k_unet_config();
      change(config);
      required_tensors<KUnet>(config);
    });
  };
  config("one level", [](KUnetConfig& c) { c.block_channels = c.layers_per_block = c.attends = {32}; });
  config("lists of different lengths", [](KUnetConfig& c) { c.layers_per_block = {1}; });
  config("a last level without attention", [](KUnetConfig& c) { c.attends = {1, 0}; });
  config("channels in no whole groups", [](KUnetConfig& c) { c.block_channels = {32, 48}; });
  config("heads of another width", [](KUnetConfig& c) { c.head_width = 24; });
  config("groups that do not divide the level above", [](KUnetConfig& c) {
    c.block_channels = {32, 96, 96}, c.layers_per_block = {1, 1, 1}, c.attends = {0, 0, 1};
  });
  config("an odd time width", [](KUnetConfig& c) { c.time_width = 31; });
}

const Register suite([] {
  operations();
  models();
  refusals();
});

}  // namespace
}  // namespace nd::test
