// Every allocation of a load, a call and a trim fails once: each failure must be an error that says so, the
// model must work afterwards, and nothing may be lost.
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

/// From one allocation that fails to the next.
int64_t stepping(int64_t emulated, int64_t tested, int64_t thoroughly) {
  return thorough() ? thoroughly : small() ? emulated : tested;
}

/// One thread while it lives. Each thread keeps a buffer that it reads files into, and which threads read is
/// left to chance: they would look like a leak.
class OneThread {
 public:
  OneThread() { ThreadPool::shared().resize(1); }
  ~OneThread() { ThreadPool::shared().resize(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  const int before_ = ThreadPool::shared().threads();
};

/// Fails the allocations of `body` from the first one on, from the second one on, and so forth until all
/// succeed. `check` runs after each with memory at hand and returns what is wrong.
template <class Body, class Check>
std::string at_every_allocation(int64_t step, Body body, Check check) {
  for (int64_t call = 1;; call += step) {
    count_tries(1);
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
      const OneThread one;
      load(precision);  // what is kept for the life of the process
      const int64_t before = failing_memory::in_use();
      return at_every_allocation(
          stepping(97, 7, 1), [&] { load(precision); },
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
          stepping(211, 53, 1),
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
  test("memory/ every allocation of a picture can fail, from loading to freeing", [&] {
    // All three models are loaded, used once with their weights streamed, and freed.
    const GoldenText clip = golden_texts()[0];
    const GoldenVae vae = golden_vaes()[0];
    const std::vector<int32_t> tokens(16, 7);
    std::vector<float> image(3 * 32 * 40);
    const auto open = [&](const std::string& file, WeightTable& table) {
      add_component(table, std::string(ND_FIXTURES) + "/models/" + file);
    };
    const auto draw = [&] {
      const LoadOptions streamed{Precision::automatic, Residency::none};
      WeightTable text, denoiser, autoencoder;
      open(weights_of(clip.name, "text_encoder"), text);
      open(weights_of(of.name, "unet"), denoiser);
      open(weights_of(vae.name, "vae"), autoencoder);
      Loader text_loader(text, backend_of(), streamed), unet_loader(denoiser, backend_of(), streamed),
          vae_loader(autoencoder, backend_of(), streamed);
      TextEncoder encoder(clip.config, text_loader);
      Unet unet(of.config, unet_loader);
      Vae decoder(vae.config, vae_loader);
      std::vector<float> states(tokens.size() * static_cast<size_t>(clip.config.width));
      encoder.encode({tokens.data(), 1, static_cast<int64_t>(tokens.size())}, states.data(), nullptr,
                     nullptr);
      const UnetInput one{latents.data(), 1, 4, 5, {timesteps, context.data(), 9}};
      std::vector<float> prediction(4 * 4 * 5);
      unet.predict(one, prediction.data(), nullptr, {});
      decoder.decode(prediction.data(), 1, 4, 5, kAnyMemory, image.data(), nullptr);
    };
    const OneThread one;
    draw();
    const std::vector<float> expected = image;
    const int64_t before = failing_memory::in_use();
    std::string why = at_every_allocation(stepping(997, 211, 5), draw, [&] {
      const int64_t leaked = failing_memory::in_use() - before;
      return leaked == 0 ? std::string() : std::to_string(leaked) + " bytes leaked";
    });
    if (!why.empty()) return why;
    draw();
    return std::string(std::memcmp(image.data(), expected.data(), image.size() * sizeof(float)) == 0
                           ? ""
                           : "the next picture differs");
  });
  test("memory/ every allocation of an autoencoder in bands can fail", [&] {
    const GoldenVae vae = golden_vaes()[0];
    const auto model = load_model<Vae>(backend_of(), weights_of(vae.name, "vae"), vae.config);
    const std::vector<float> z = noise("latents", 4 * 9 * 7);
    std::vector<float> image(3 * 72 * 56);
    model->decode(z.data(), 1, 9, 7, 0, image.data(), nullptr);
    const std::vector<float> expected = image;
    // The same plan each time, which is chosen anew as it is for another limit.
    size_t limit = 0;
    return at_every_allocation(
        stepping(20011, 4999, 499), [&] { model->decode(z.data(), 1, 9, 7, ++limit, image.data(), nullptr); },
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
