// The UNet's caches must never change its results.
#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include "core/error.h"
#include "core/thread_pool.h"
#include "fixture_models.h"
#include "harness.h"
#include "unet/unet.h"

namespace nd::test {
namespace {

std::unique_ptr<Unet> load(Precision precision) {
  WeightTable table;
  add_safetensors(table, std::string(ND_FIXTURES) + "/models/sd1/unet/diffusion_pytorch_model.safetensors");
  Loader loader(table, backend_of(), {precision});
  return std::make_unique<Unet>(unet_config(), loader);
}

/// One call: a row for each image, of which `contexts` names the context.
struct Call {
  std::vector<std::string> contexts;
  std::vector<float> timesteps;
  int64_t h = 6, w = 10, length = 9;

  std::vector<float> operator()(Unet& unet, const CancelToken* cancel = nullptr,
                                const UnetOptions& options = {}, const std::string& seed = "latents") const {
    const int64_t n = static_cast<int64_t>(contexts.size());
    const std::vector<float> latents = noise(seed, n * 4 * h * w);
    std::vector<float> context;
    for (const std::string& name : contexts) {
      const std::vector<float> row = noise(name, length * unet.config().context_width);
      context.insert(context.end(), row.begin(), row.end());
    }
    std::vector<float> out(latents.size());
    unet.predict({latents.data(), n, h, w, {timesteps.data(), context.data(), length}}, out.data(), cancel,
                 options);
    return out;
  }
  std::string name() const {
    std::string text;
    for (size_t i = 0; i < contexts.size(); ++i) text += contexts[i] + "@" + test::text(timesteps[i]) + " ";
    return text + std::to_string(h) + "x" + std::to_string(w) + " length " + std::to_string(length);
  }
};

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

const std::vector<Call>& calls() {
  static const std::vector<Call> all = {
      {{"u", "a"}, {981, 981}},
      {{"u", "a"}, {961, 961}},
      {{"a"}, {941}},                        // outside the guidance interval
      {{"u", "a"}, {921, 921}},              // inside it again
      {{"u", "b"}, {981, 981}},              // another caller's prompt
      {{"a", "u"}, {981, 981}},              // the same contexts in another order
      {{"u", "u", "a", "b"}, {1, 2, 1, 2}},  // more images, one context twice
      {{"u", "a"}, {981, 20.5f}, 9, 7},      // another size, odd
      {{"u", "a"}, {981, 981}, 6, 10, 18},   // a longer prompt
      {{"a"}, {981}, 6, 10, 1},              // a context of one token
      {{"u", "a"}, {981, 981}},
  };
  return all;
}

/// Under an emulator only the three that differ most.
std::vector<Call> few_calls() {
  return small() ? std::vector<Call>{calls()[0], calls()[6], calls()[7]} : calls();
}

void caches() {
  for (const Precision precision : {Precision::f32, Precision::automatic, Precision::i8}) {
    const std::string name = "unet/ precision " + std::to_string(static_cast<int>(precision)) + " ";
    test(name + "does not depend on earlier calls", [&] {
      const std::unique_ptr<Unet> unet = load(precision), other = load(precision);
      for (size_t round = 0; round < 3; ++round) {
        for (const Call& call : few_calls()) {
          other->trim();
          if (!same(call(*unet), call(*other))) return call.name() + " differs";
        }
        if (round == 1) unet->trim();
      }
      return std::string();
    });
    test(name + "gives the same with prepared timesteps", [&] {
      const std::unique_ptr<Unet> unet = load(precision), other = load(precision);
      std::vector<float> schedule(100);  // more than the cache holds
      for (size_t i = 0; i < schedule.size(); ++i) schedule[i] = 1001.0f - 10.0f * static_cast<float>(i + 1);
      for (const float timestep : {991.0f, 501.0f, 1.0f, 3.5f}) {
        unet->prepare({schedule.data()}, static_cast<int64_t>(schedule.size()), nullptr);
        const Call call{{"u", "a"}, {timestep, timestep}};
        if (!same(call(*unet), call(*other))) return call.name() + " differs";
      }
      return std::string();
    });
  }
  test("unet/ gives the same after a call was cancelled at any point", [] {
    const std::unique_ptr<Unet> unet = load(Precision::automatic);
    const Call call = calls()[6];
    const std::vector<float> expected = call(*unet);
    return cancel_everywhere(
        small() ? 5 : 60,
        [&](const CancelToken* token) {
          unet->trim();
          call(*unet, token);
        },
        [&] { return std::string(same(call(*unet), expected) ? "" : "differs after a cancelled call"); });
  });
  test("unet/ holds no more than workingBytes says, and nothing after trim", [] {
    const std::unique_ptr<Unet> unet = load(Precision::f32);
    for (const Call& call : calls()) {
      unet->trim();
      if (unet->held_bytes() != 0) return std::string("held after trim");
      call(*unet);
      const size_t needed =
          unet->working_bytes(static_cast<int64_t>(call.contexts.size()), call.h, call.w, call.length);
      if (unet->held_bytes() == 0 || unet->held_bytes() > needed)
        return call.name() + " holds " + std::to_string(unet->held_bytes()) + " of " + std::to_string(needed);
    }
    return std::string();
  });
}

/// Features of a model that is gone are never those of another one, not even of one at the same address.
std::string features_of_a_model_that_is_gone() {
  const std::vector<float> latents = noise("latents", 4 * 6 * 10), context = noise("context", 9 * 20);
  const float timestep = 500;
  DeepFeatures deep;
  // Both models get the same memory.
  std::optional<Unet> unet;
  const auto predict = [&](Precision precision, DeepFeatures* features, bool reuse) {
    WeightTable table;
    add_component(table, std::string(ND_FIXTURES) + "/models/sd1/unet/diffusion_pytorch_model.safetensors");
    unet.reset();
    Loader loader(table, backend_of(), {precision});
    unet.emplace(unet_config(), loader);
    std::vector<float> out(latents.size());
    const UnetOptions options{0, features, 1, reuse};
    unet->predict({latents.data(), 1, 6, 10, {&timestep, context.data(), 9}}, out.data(), nullptr, options);
    return out;
  };
  DeepFeatures others;
  const std::vector<float> expected = predict(Precision::i8, &others, false);
  predict(Precision::f32, &deep, false);
  return same(predict(Precision::i8, &deep, true), expected) ? "" : "features of the earlier model were used";
}

void deep_features() {
  test("unet/ deep features of a model that is gone", features_of_a_model_that_is_gone);
  for (const Precision precision : {Precision::f32, Precision::automatic}) {
    const std::string name =
        "unet/ deep features, precision " + std::to_string(static_cast<int>(precision)) + " ";
    test(name + "of a call reproduce it at any depth", [&] {
      const std::unique_ptr<Unet> unet = load(precision);
      if (unet->max_depth() != 11) return "depth " + std::to_string(unet->max_depth());
      for (int64_t depth = 1; depth <= unet->max_depth(); depth += small() ? 5 : 1) {
        for (const Call& call : few_calls()) {
          DeepFeatures deep;
          const std::vector<float> expected = call(*unet);
          if (!same(call(*unet, nullptr, {0, &deep, depth, true}), expected)) return "first: " + call.name();
          calls()[4](*unet);  // another caller
          unet->trim();
          if (!same(call(*unet, nullptr, {0, &deep, depth, true}), expected)) return "again: " + call.name();
          if (!same(call(*unet, nullptr, {0, &deep, depth, false}), expected))
            return "recomputed: " + call.name();
        }
      }
      return std::string();
    });
    test(name + "serve other latents of the same shape only", [&] {
      const std::unique_ptr<Unet> unet = load(precision), other = load(precision);
      const Call call = calls()[0], wide = {{"u", "a"}, {981, 981}, 10, 6}, one = {{"a"}, {981}};
      DeepFeatures deep;
      call(*unet, nullptr, {0, &deep, 2, false});
      const std::vector<float> whole = call(*unet, nullptr, {}, "next");
      const std::vector<float> reused = call(*unet, nullptr, {0, &deep, 2, true}, "next");
      if (same(reused, whole)) return "nothing was reused";
      if (!same(call(*unet, nullptr, {0, &deep, 2, true}, "next"), reused))
        return "reusing changed what was kept";
      for (const Call& shape : {wide, one}) {
        if (!same(shape(*unet, nullptr, {0, &deep, 2, true}, "next"), shape(*unet, nullptr, {}, "next")))
          return "of another shape";
      }
      call(*unet, nullptr, {0, &deep, 2, false});
      if (!same(call(*unet, nullptr, {0, &deep, 3, true}, "next"), whole)) return "of another depth";
      call(*unet, nullptr, {0, &deep, 2, false});
      if (!same(call(*other, nullptr, {0, &deep, 2, true}, "next"), whole)) return "of another model";
      CancelToken token;
      token.cancel();
      call(*unet, nullptr, {0, &deep, 2, false});
      try {
        call(*unet, &token, {0, &deep, 2, false});
        return "not cancelled";
      } catch (const Cancelled&) {
      }
      if (!same(call(*unet, nullptr, {0, &deep, 2, true}, "next"), whole)) return "of a cancelled call";
      return "";
    });
  }
  test("unet/ working memory includes deep features", [] {
    const std::unique_ptr<Unet> unet = load(Precision::f32);
    for (int64_t depth = 1; depth <= unet->max_depth(); ++depth) {
      DeepFeatures deep;
      const Call call = calls()[0];
      unet->trim();
      call(*unet, nullptr, {0, &deep, depth, false});
      const UnetOptions options{0, nullptr, depth, false};
      if (deep.bytes() == 0 || unet->held_bytes() + deep.bytes() > unet->working_bytes(2, 6, 10, 9, options))
        return "depth " + std::to_string(depth);
    }
    return std::string();
  });
}

void token_merging() {
  for (const Precision precision : {Precision::f32, Precision::automatic}) {
    test("unet/ token merging, precision " + std::to_string(static_cast<int>(precision)), [&] {
      const std::unique_ptr<Unet> unet = load(precision);
      ThreadPool& pool = ThreadPool::shared();
      const int threads = pool.threads();
      for (const Call& call : few_calls()) {
        const std::vector<float> whole = call(*unet);
        if (!same(call(*unet, nullptr, {0.0}), whole)) return "ratio 0: " + call.name();
        std::vector<float> before = whole;
        for (const double ratio : {0.25, 0.5, 0.75}) {
          pool.resize(1);
          const std::vector<float> one = call(*unet, nullptr, {ratio});
          pool.resize(3);
          const std::vector<float> three = call(*unet, nullptr, {ratio});
          pool.resize(threads);
          if (!same(one, three)) return "threads: " + call.name();
          if (same(one, before)) return "no effect: " + call.name();
          before = one;
          unet->trim();
          call(*unet, nullptr, {ratio});
          const auto n = static_cast<int64_t>(call.contexts.size());
          if (unet->held_bytes() > unet->working_bytes(n, call.h, call.w, call.length, {ratio}))
            return "memory: " + call.name();
        }
      }
      return std::string();
    });
  }
  test("unet/ options out of bounds are refused", [] {
    const std::unique_ptr<Unet> unet = load(Precision::f32);
    DeepFeatures deep;
    for (const UnetOptions& options :
         {UnetOptions{-0.1}, UnetOptions{0.76}, UnetOptions{std::nan("")}, UnetOptions{0, &deep, 0},
          UnetOptions{0, &deep, 12}, UnetOptions{0, &deep, -1}}) {
      try {
        calls()[0](*unet, nullptr, options);
        return "not refused";
      } catch (const Error& error) {
        if (error.code() != ErrorCode::invalid_argument) return "another error";
      }
    }
    return "";
  });
}

const Register suite([] {
  caches();
  deep_features();
  token_merging();
});

}  // namespace
}  // namespace nd::test
