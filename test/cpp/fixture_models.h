// Loads the models of the fixtures without TypeScript.
#pragma once
#include <exception>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "core/thread_pool.h"
#include "cpu/backend.h"
#include "harness.h"
#include "nn/loader.h"
#include "text/text_encoder.h"
#include "unet/config.h"
#include "unet/k_config.h"
#include "unet/unet.h"
#include "vision/image_encoder.h"

namespace nd::test {

/// The integers between the brackets that follow `key`, which `text` has at or after `at`.
std::vector<int64_t> numbers_after(const std::string& text, const char* key, size_t at);

/// Adds the tensors of a valid safetensors file as Python writes it; the parser for all others is
/// TypeScript's.
void add_safetensors(WeightTable& table, const std::string& path);
/// The same for a file that may be stored as two shards.
void add_component(WeightTable& table, const std::string& path);

/// The CPU with these kernels, or with the best that it can run.
Backend& backend_of(const cpu::Kernels* kernels = nullptr);

/// Numbers in [−1, 1) that depend only on `seed`.
std::vector<float> noise(const std::string& seed, int64_t count);

/// Of the fixture "sd1".
UnetConfig unet_config();
/// Of the text encoder's fixture "clip".
TextEncoderConfig text_encoder_config();
/// Of the image encoder's fixture "open-clip".
ImageEncoderConfig image_encoder_config();

/// Of the latent upscaler's fixture "two-levels", whose file this is.
KUnetConfig k_unet_config();
constexpr const char* kKUnetFile = "../latent-upscaler/two-levels/diffusion_pytorch_model.safetensors";

/// The component in `file` (below test/fixtures/models) on any backend.
template <class Model, class Config>
std::unique_ptr<Model> load_model(Backend& backend, const std::string& file, const Config& config,
                                  const CancelToken* cancel = nullptr,
                                  Precision precision = Precision::automatic) {
  WeightTable table;
  add_component(table, std::string(ND_FIXTURES) + "/models/" + file);
  Loader loader(table, backend, {precision}, cancel);
  return std::make_unique<Model>(config, loader);
}

/// The component in `file` (below test/fixtures/models) on the CPU, for these kernels, else the best that
/// this CPU has.
template <class Model, class Config>
std::unique_ptr<Model> load_model(const char* file, const Config& config, const CancelToken* cancel = nullptr,
                                  Precision precision = Precision::automatic,
                                  const cpu::Kernels* kernels = nullptr) {
  return load_model<Model>(backend_of(kernels), file, config, cancel, precision);
}

/// The UNet of the fixture "sd1" in float32, and what it predicts for one image of 8×8.
std::unique_ptr<Unet> load_fixture_unet(Backend& backend, const CancelToken* cancel = nullptr);
std::vector<float> predict_one(Unet& unet, const CancelToken* cancel = nullptr);

/// Working memory without bounds.
constexpr size_t kAnyMemory = std::numeric_limits<size_t>::max();

/// One case; check() returns what is wrong, or nothing.
template <class Check>
void test(const std::string& name, Check check) {
  if (!wanted(name)) return;
  try {
    report(name, check());
  } catch (const std::exception& error) {
    report(name, std::string("threw ") + error.what());
  }
}

/// Runs `call(token)` with tokens that cancel it the first time it asks, the last time, and between; each
/// must throw Cancelled. Returns what `after()` says is wrong after one of them, or nothing. A call asks
/// least often with one thread, so the places counted with one thread are reached with any number.
template <class Call, class After>
std::string cancel_everywhere(int places, Call call, After after) {
  constexpr int64_t kBeyond = int64_t{1} << 40;
  ThreadPool& pool = ThreadPool::shared();
  const int threads = pool.threads();
  CancelToken counting;
  counting.cancel_at(kBeyond);
  pool.resize(1);
  call(&counting);
  pool.resize(threads);
  const int64_t questions = kBeyond - counting.left();
  if (questions < places) return "asked " + std::to_string(questions) + " times only";
  for (int i = 0; i < places; ++i) {
    CancelToken token;
    const int64_t at = 1 + (questions - 1) * i / (places - 1);
    const std::string where = " at question " + std::to_string(at) + " of " + std::to_string(questions);
    token.cancel_at(at);
    try {
      call(&token);
      return "not cancelled" + where;
    } catch (const Cancelled&) {
    }
    const std::string why = after();
    if (!why.empty()) return why + where;
  }
  return "";
}

}  // namespace nd::test
