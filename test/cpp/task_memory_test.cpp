// The memory of tasks, which is outside of the arena: bounded, counted, and freed.
#include <atomic>
#include <thread>

#include "cpu/layers/pack_buffer.h"
#include "fixture_models.h"
#include "harness.h"
#include "tables.h"
#include "unet/unet.h"

namespace nd::test {
using namespace nd::cpu;
namespace {

/// The bytes that tasks hold.
size_t held(const ThreadPool& pool) {
  return pool.scratch_bytes() + PackBuffer::held_bytes();
}

/// Runs a prediction with so many threads; returns what is wrong with the memory of its tasks.
std::string check_prediction(const Kernels& table, Precision precision, Residency residency, int threads) {
  ThreadPool pool(threads);
  CpuBackend backend(table, pool);
  WeightTable weights;
  add_component(weights, std::string(ND_FIXTURES) + "/models/sd1/unet/diffusion_pytorch_model.safetensors");
  TaskBytes tasks;
  std::unique_ptr<Unet> unet;
  {
    Loader loader(weights, backend, {precision, residency});
    unet = std::make_unique<Unet>(unet_config(), loader);
    tasks = loader.task_bytes();
  }
  if (held(pool) != 0) return std::to_string(held(pool)) + " bytes are kept after loading";
  const std::vector<float> latents = noise("latents", 2 * 4 * 16 * 24),
                           context = noise("context", 2 * 9 * 20);
  const float timesteps[] = {981.0f, 17.5f};
  std::vector<float> out(latents.size());
  unet->predict({latents.data(), 2, 16, 24, {timesteps, context.data(), 9}}, out.data(), nullptr);
  // Not counted: the head of each buffer, alignment, and a few kilobytes that one row takes.
  const size_t counted = backend.bytes_of(tasks) + static_cast<size_t>(threads) * (8 << 10);
  if (held(pool) > counted)
    return std::to_string(held(pool)) + " bytes are held where " + std::to_string(counted) + " are counted";
  if (residency == Residency::none && held(pool) == 0) return "nothing was packed";
  unet->trim();
  return held(pool) == 0 ? "" : std::to_string(held(pool)) + " bytes are kept after trim()";
}

const Register suite([] {
  int count = 0;
  const Kernels* const* tables = available_kernels(&count);
  for (int i = 0; i < count; ++i)
    for (const Precision precision : {Precision::f32, Precision::i8})
      for (const Residency residency : {Residency::all, Residency::none})
        for (const int threads : {1, 5})
          test(std::string("memory/ of tasks, ") + tables[i]->name +
                   (precision == Precision::f32 ? ", float32" : ", int8") +
                   (residency == Residency::none ? ", streamed" : "") + ", " + std::to_string(threads) +
                   " threads",
               [=] { return check_prediction(*tables[i], precision, residency, threads); });
  test("memory/ of packing is bounded whatever the number of threads", [] {
    PackBuffer::free_unused();
    constexpr size_t kFloats = (size_t{24} << 20) / sizeof(float);
    std::atomic<size_t> most{0};
    std::atomic<int> active{0}, most_active{0};
    const auto raise = [](auto& highest, auto value) {
      auto before = highest.load();
      while (before < value && !highest.compare_exchange_weak(before, value)) {
      }
    };
    ThreadPool pool(16);
    pool.parallel_for(64, nullptr, [&](int64_t index, int) {
      const PackBuffer buffer(index % 5 == 0 ? kFloats / 3 : kFloats);
      raise(most_active, ++active);
      buffer.data()[0] = 1;
      raise(most, PackBuffer::held_bytes());
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      --active;
    });
    if (most > PackBuffer::kMaxBytes) return std::to_string(most) + " bytes at once";
    if (most_active < 2) return std::string("no two at once");
    PackBuffer::free_unused();
    return PackBuffer::held_bytes() == 0 ? std::string() : std::string("some are left");
  });
  test("memory/ of packing: one buffer may exceed the bound", [] {
    std::atomic<int> done{0};
    ThreadPool pool(4);
    pool.parallel_for(6, nullptr, [&](int64_t index, int) {
      const PackBuffer buffer((PackBuffer::kMaxBytes >> 2) + (index % 2 ? 1000 : 0));
      buffer.data()[0] = 1;
      ++done;
    });
    PackBuffer::free_unused();
    return done == 6 ? "" : "buffers are missing";
  });
});

}  // namespace
}  // namespace nd::test
