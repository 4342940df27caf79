// Whole models as a server uses them: load, run, cancel, trim, several at once. The golden tests compare
// their results; these tests are about memory and threads, above all under the sanitizers.
#ifdef __linux__
#include <unistd.h>
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <thread>

#include "core/error.h"
#include "fixture_models.h"
#include "harness.h"
#include "tables.h"
#include "cpu/layers/packed_matrix.h"
#include "text/text_encoder.h"
#include "unet/unet.h"
#include "vae/vae.h"

namespace nd::test {
using namespace nd::cpu;
namespace {

/// A model, its weights' file, and one call of it that fills `out`.
template <class Model, class Config>
struct Subject {
  const char* name;
  const char* file;
  Config config;
  void (*call)(Model&, const CancelToken*, std::vector<float>& out);

  std::unique_ptr<Model> load(const CancelToken* cancel = nullptr,
                              Precision precision = Precision::automatic) const {
    return load_model<Model>(file, config, cancel, precision);
  }
};

VaeConfig vae_config(bool quantized) {
  VaeConfig config;
  config.block_channels = quantized ? std::vector<int64_t>{8, 8, 16} : std::vector<int64_t>{8, 8, 16, 16};
  config.norm_groups = 4;
  if (quantized) {
    config.layers_per_block = 1;
    config.latent_channels = config.codebook_width = 3;
    config.codebook_size = 37;
  }
  return config;
}

void call_unet(Unet& model, const CancelToken* cancel, std::vector<float>& out) {
  const std::vector<float> latents = noise("latents", 2 * 4 * 16 * 24),
                           context = noise("context", 2 * 9 * 20);
  const float timesteps[] = {981.0f, 17.5f};
  out.resize(latents.size());
  model.predict({latents.data(), 2, 16, 24, {timesteps, context.data(), 9}}, out.data(), cancel);
}

void call_vae(Vae& model, const CancelToken* cancel, std::vector<float>& out) {
  const std::vector<float> image = noise("image", 3 * 64 * 48), latents = noise("latents", 4 * 9 * 7);
  std::vector<float> moments(8 * 8 * 6), banded(3 * 72 * 56);
  out.resize(banded.size());
  model.encode(image.data(), 1, 64, 48, kAnyMemory, moments.data(), cancel);
  model.decode(latents.data(), 1, 9, 7, 0, banded.data(), cancel);
  model.decode(latents.data(), 1, 9, 7, kAnyMemory, out.data(), cancel);
  out.insert(out.end(), moments.begin(), moments.end());
  out.insert(out.end(), banded.begin(), banded.end());
}

void call_vq(Vae& model, const CancelToken* cancel, std::vector<float>& out) {
  const std::vector<float> image = noise("image", 3 * 32 * 40);
  std::vector<float> latents(3 * 8 * 10);
  std::vector<int32_t> codes(8 * 10);
  out.resize(3 * 32 * 40);
  model.encode(image.data(), 1, 32, 40, kAnyMemory, latents.data(), cancel);
  model.quantize(latents.data(), 1, 8, 10, codes.data(), cancel);
  model.lookup(codes.data(), 1, 8, 10, latents.data());
  model.decode(latents.data(), 1, 8, 10, kAnyMemory, out.data(), cancel);
}

void call_text(TextEncoder& model, const CancelToken* cancel, std::vector<float>& out) {
  std::vector<int32_t> tokens(3 * 77);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i * 31 % 131);
  out.resize(tokens.size() * 32);
  model.encode({tokens.data(), 3, 77}, out.data(), nullptr, cancel);
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

template <class Model, class Config>
void life(const Subject<Model, Config>& subject) {
  const std::string name = std::string("models/") + subject.name;
  const int rounds = small() ? 3 : 20;
  test(name + " gives the same after trim, cancellation and reloading", [&] {
    std::unique_ptr<Model> model = subject.load();
    std::vector<float> first, out;
    subject.call(*model, nullptr, first);
    for (float value : first)
      if (!(value - value == 0.0f)) return std::string("not finite");
    subject.call(*model, nullptr, out);
    if (!same(out, first)) return std::string("a second call differs");
    bool trim = false;
    std::string why = cancel_everywhere(
        rounds, [&](const CancelToken* token) { subject.call(*model, token, out); },
        [&] {
          if ((trim = !trim)) model->trim();
          subject.call(*model, nullptr, out);
          return std::string(same(out, first) ? "" : "differs after a cancelled call");
        });
    if (!why.empty()) return why;
    model = subject.load();
    subject.call(*model, nullptr, out);
    return std::string(same(out, first) ? "" : "differs after reloading");
  });
  test(name + " loading can be cancelled", [&] {
    return cancel_everywhere(
        rounds, [&](const CancelToken* token) { subject.load(token); }, [] { return std::string(); });
  });
  test(name + " in several threads at once", [&] {
    std::vector<float> alone;
    subject.call(*subject.load(), nullptr, alone);
    std::vector<std::vector<float>> outs(3);
    std::vector<std::thread> threads;
    for (std::vector<float>& out : outs) {
      threads.emplace_back([&] {
        const std::unique_ptr<Model> model = subject.load();
        for (int i = 0; i < 3; ++i) subject.call(*model, nullptr, out);
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const std::vector<float>& out : outs)
      if (!same(out, alone)) return "differs from a single call";
    return "";
  });
  test(name + " in every precision", [&] {
    for (const Precision precision : {Precision::f32, Precision::bf16, Precision::i8}) {
      std::vector<float> out;
      subject.call(*subject.load(nullptr, precision), nullptr, out);
      for (float value : out)
        if (!(value - value == 0.0f)) return "not finite";
    }
    return "";
  });
}

#ifdef __linux__
int64_t resident_bytes() {
  int64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages >> pages;
  return pages * sysconf(_SC_PAGESIZE);
}

void memory() {
  test("models/ freed weights return to the system", [] {
    const int64_t before = resident_bytes();
    // glibc keeps freed blocks that are no larger than the largest one freed before, as long as a small block
    // after them is in use.
    std::free(std::malloc(30 << 20));
    std::vector<std::unique_ptr<char[]>> small;
    WeightTable none;
    const Device& device = static_cast<CpuBackend&>(backend_of()).device();
    Loader loader(none, backend_of());
    {
      std::vector<PackedMatrix> matrices;
      for (int i = 0; i < 40; ++i) {
        matrices.emplace_back(device, loader, Compute::f32, 1024, Inner{1, 1, i % 2 ? 1024 : 256},
                              RowSource{[](int64_t, float* row) { std::fill_n(row, 256, 1.0f); }, nullptr});
        small.push_back(std::make_unique<char[]>(1000));
      }
      if (resident_bytes() - before < (50 << 20)) return std::string("there was nothing to free");
    }
    const int64_t left = resident_bytes() - before;
    return left < (20 << 20) ? std::string() : std::to_string(left >> 20) + " MB are left";
  });
}
#else
void memory() {}
#endif

void resized_pool() {
  test("models/ vq quantizes while the number of threads changes", [] {
    const VaeConfig config = vae_config(true);
    const std::unique_ptr<Vae> model = load_model<Vae>("vq/vae/diffusion_pytorch_model.safetensors", config);
    constexpr int64_t kSide = 32;
    const std::vector<float> latents = noise("latents", 3 * kSide * kSide);
    std::vector<int32_t> codes(kSide * kSide), expected(kSide * kSide);
    model->quantize(latents.data(), 1, kSide, kSide, expected.data(), nullptr);
    ThreadPool& pool = ThreadPool::shared();
    const int threads = pool.threads();
    std::string why;
    for (int i = 0; i < 10 && why.empty(); ++i) {
      pool.resize(1);
      // The call below waits for this work, at whose end the pool is to have more threads than when the call
      // began. A buffer of the call for as many threads as there were would be too small.
      std::atomic<bool> working{false};
      std::thread other([&] {
        pool.parallel_for(1, nullptr, [&](int64_t, int) {
          working = true;
          std::this_thread::sleep_for(std::chrono::milliseconds(20));
          pool.resize(12);
        });
      });
      while (!working) std::this_thread::yield();
      model->quantize(latents.data(), 1, kSide, kSide, codes.data(), nullptr);
      if (codes != expected) why = "other codes in call " + std::to_string(i);
      other.join();
    }
    pool.resize(threads);
    return why;
  });
}

/// Where a table has int16, an autoencoder multiplies it in place of bfloat16.
void sixteen_bits() {
  const auto run = [](const Kernels& table, Precision precision) {
    const char* file = "vae-kl/vae/diffusion_pytorch_model.safetensors";
    std::vector<float> out;
    call_vae(*load_model<Vae>(file, vae_config(false), nullptr, precision, &table), nullptr, out);
    return out;
  };
  for (const Kernels* table : all_tables())
    test(std::string("models/ vae in 16 bits is close to float32, ") + table->name, [&run, table] {
      const double error = relative_error(run(*table, Precision::bf16), run(*table, Precision::f32));
      return error <= (table->i16 ? 0.005 : 0.02) ? std::string() : "relative error " + text(error);
    });
}

const Register suite([] {
  sixteen_bits();
  resized_pool();
  memory();
  life(Subject<Unet, UnetConfig>{"unet", "sd1/unet/diffusion_pytorch_model.safetensors", unet_config(),
                                 call_unet});
  life(Subject<Vae, VaeConfig>{"vae", "vae-kl/vae/diffusion_pytorch_model.safetensors", vae_config(false),
                               call_vae});
  life(
      Subject<Vae, VaeConfig>{"vq", "vq/vae/diffusion_pytorch_model.safetensors", vae_config(true), call_vq});
  life(Subject<TextEncoder, TextEncoderConfig>{"text", "clip/text_encoder/model.safetensors",
                                               text_encoder_config(), call_text});
});

}  // namespace
}  // namespace nd::test
