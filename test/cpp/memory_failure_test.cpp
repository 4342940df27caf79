// Every allocation of a load, a call and a trim fails once: each failure must be an error that says so, the
// model must work afterwards, and nothing may be lost.
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "core/error.h"
#include "failing_memory.h"
#include "fixture_models.h"
#include "golden.h"
#include "harness.h"

#ifdef ND_TEST_FAILING_MEMORY
namespace nd::test {
namespace {

struct Failure {
  bool failed = false;  // an allocation failed
  std::string wrong;    // what is wrong with how that showed
};

/// Runs `body` with the allocations from the `call`th on failing.
template <class Body>
Failure run_failing(int64_t call, Body body) {
  Failure result;
  bool threw = false;
  failing_memory::from(call);
  try {
    body();
  } catch (const std::bad_alloc&) {
    threw = true;
  } catch (const Error& error) {
    threw = true;
    if (error.code() != ErrorCode::out_of_memory) result.wrong = error.what();
  } catch (...) {
    threw = true;
    result.wrong = "another exception";
  }
  result.failed = failing_memory::stop();
  if (threw && !result.failed) result.wrong = "an error without a failed allocation";
  return result;
}

/// 1 where every allocation is to fail (ND_TEST_THOROUGH is set), else `step`.
int64_t stepping(int64_t step) {
  return std::getenv("ND_TEST_THOROUGH") ? 1 : step;  // NOLINT(concurrency-mt-unsafe): nothing sets it
}

/// Fails the allocations of `body` from the first one on, from the second one on, and so forth until all
/// succeed. `check` runs after each with memory at hand and returns what is wrong.
template <class Body, class Check>
std::string at_every_allocation(int64_t step, Body body, Check check) {
  for (int64_t call = 1;; call += step) {
    const Failure failure = run_failing(call, body);
    std::string why = failure.wrong.empty() ? check() : failure.wrong;
    if (!why.empty()) return why + " with allocation " + std::to_string(call) + " failing";
    if (!failure.failed) return call > 3 * step ? "" : "only " + std::to_string(call) + " allocations";
  }
}

const Register suite([] {
  const GoldenUnet of = golden_unets()[6];  // the one with the fewest layers
  const std::vector<float> latents = noise("latents", 2 * 4 * 6 * 10), context = noise("context", 2 * 9 * 20);
  const float timesteps[] = {981.0f, 17.5f};
  const UnetInput input{latents.data(), 2, 6, 10, {timesteps, context.data(), 9}};
  std::vector<float> out(latents.size());
  const auto load = [&](Precision precision) {
    return load_model<Unet>(backend_of(), weights_of(of.name, "unet"), of.config, nullptr, precision);
  };
  for (const Precision precision : {Precision::f32, Precision::i8}) {
    const std::string name = precision == Precision::f32 ? ", float32" : ", int8";
    test("memory/ every allocation of loading a UNet can fail" + name, [&] {
      load(precision);  // what is kept for the life of the process
      const int64_t before = failing_memory::in_use();
      return at_every_allocation(
          stepping(small() ? 97 : 7), [&] { load(precision); },
          [&] {
            const int64_t leaked = failing_memory::in_use() - before;
            return leaked == 0 ? std::string() : std::to_string(leaked) + " bytes leaked";
          });
    });
    test("memory/ every allocation of a prediction can fail" + name, [&] {
      const auto model = load(precision);
      DeepFeatures deep;
      const UnetOptions options{0.5, &deep, 1, false};
      model->predict(input, out.data(), nullptr, options);
      const std::vector<float> expected = out;
      return at_every_allocation(
          stepping(small() ? 211 : 53),
          [&] {
            model->trim();
            model->predict(input, out.data(), nullptr, options);
          },
          [&] {
            model->predict(input, out.data(), nullptr, options);
            const bool same = std::memcmp(out.data(), expected.data(), out.size() * sizeof(float)) == 0;
            return std::string(same ? "" : "the next prediction differs");
          });
    });
  }
  test("memory/ every allocation of an autoencoder in bands can fail", [&] {
    const GoldenVae vae = golden_vaes()[0];
    const auto model = load_model<Vae>(backend_of(), weights_of(vae.name, "vae"), vae.config);
    const std::vector<float> z = noise("latents", 4 * 9 * 7);
    std::vector<float> image(3 * 72 * 56);
    model->decode(z.data(), 1, 9, 7, 0, image.data(), nullptr);
    const std::vector<float> expected = image;
    return at_every_allocation(
        stepping(small() ? 20011 : 4999), [&] { model->decode(z.data(), 1, 9, 7, 0, image.data(), nullptr); },
        [&] {
          model->decode(z.data(), 1, 9, 7, 0, image.data(), nullptr);
          const bool same = std::memcmp(image.data(), expected.data(), image.size() * sizeof(float)) == 0;
          return std::string(same ? "" : "the next image differs");
        });
  });
});

}  // namespace
}  // namespace nd::test
#endif
