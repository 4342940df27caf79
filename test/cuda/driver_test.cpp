// What can go wrong between us and a driver: each a clear error with its code, and nothing left behind. The
// emulator plays the drivers.
#include "changed_driver.h"
#include "driver.h"

#include <thread>

#include "fixture_models.h"
#include "support.h"
#include "unet/unet.h"

namespace nd::cuda_test {
namespace {

using namespace nd::cuda;

/// Runs `call` and says whether it failed with this code, and `part` in its message.
template <class Call>
std::string fails(ErrorCode code, const std::string& part, const Call& call) {
  try {
    call();
    return "no error";
  } catch (const Error& error) {
    if (error.code() != code) return std::string("another code: ") + error.what();
    return std::string(error.what()).find(part) == std::string::npos
               ? std::string("unexpected: ") + error.what()
               : "";
  }
}

void unavailable() {
  test::test("cuda/driver there is none", [] {
    return fails(ErrorCode::device_unavailable, "does not tell its version",
                 [] { load_driver([](void*, const char*) -> void* { return nullptr; }, nullptr); });
  });
  test::test("cuda/driver too old", [] {
    ChangedDriver options;
    options->version = 11080;
    return fails(ErrorCode::device_unavailable, "supports CUDA 11.8",
                 [] { load_driver(emu::symbol, nullptr); });
  });
  test::test("cuda/driver no GPU", [] {
    ChangedDriver options;
    options->devices = 0;
    return fails(ErrorCode::device_unavailable, "No NVIDIA GPU", [] { CudaBackend(emu::driver(), 0, {}); });
  });
  test::test("cuda/driver a GPU number beyond the last", [] {
    return fails(ErrorCode::device_unavailable, "below 1 but received 3",
                 [] { CudaBackend(emu::driver(), 3, {}); });
  });
  test::test("cuda/driver a GPU that is too old", [] {
    ChangedDriver options;
    options->capability = 61;
    return fails(ErrorCode::device_unavailable, "has 6.1", [] { CudaBackend(emu::driver(), 0, {}); });
  });
}

void life() {
  test::test("cuda/driver nothing is left behind", [] {
    const emu::DriverCounts before = emu::driver_counts;
    {
      CudaBackend backend(emu::driver(), 0, {});
      const std::unique_ptr<Unet> unet = load_fixture_unet(backend);
      predict_one(*unet);
      unet->trim();
    }
    const emu::DriverCounts after = emu::driver_counts;
    if (after.bytes != before.bytes) return std::to_string(after.bytes - before.bytes) + " bytes";
    if (after.streams != before.streams) return std::string("a stream");
    return std::string(after.contexts == before.contexts ? "" : "a context");
  });
  test::test("cuda/driver out of memory while loading and while running", [] {
    CudaBackend backend(emu::driver(), 0, {});
    ChangedDriver options;
    options->memory = static_cast<size_t>(emu::driver_counts.bytes) + (64 << 10);
    std::string why = fails(ErrorCode::out_of_memory, "Emulated GPU", [&] { load_fixture_unet(backend); });
    if (!why.empty()) return "loading: " + why;
    options->memory = size_t{8} << 30;
    const std::unique_ptr<Unet> unet = load_fixture_unet(backend);
    const std::vector<float> expected = predict_one(*unet);
    unet->trim();
    options->memory = static_cast<size_t>(emu::driver_counts.bytes) + (4 << 10);
    why = fails(ErrorCode::out_of_memory, "MB", [&] { predict_one(*unet); });
    if (!why.empty()) return "running: " + why;
    options->memory = size_t{8} << 30;
    return std::string(same(predict_one(*unet), expected) ? "" : "afterwards it differs");
  });
  test::test("cuda/driver a device that is lost", [] {
    std::string why;
    {
      CudaBackend backend(emu::driver(), 0, {});
      const std::unique_ptr<Unet> unet = load_fixture_unet(backend);
      ChangedDriver options;
      options->fail_launch = 40;
      why = fails(ErrorCode::device_lost, "load them again", [&] { predict_one(*unet); });
    }
    emu::recover();
    if (!why.empty()) return why;
    CudaBackend backend(emu::driver(), 0, {});
    predict_one(*load_fixture_unet(backend));
    return why;
  });
}

void several() {
  test::test("cuda/driver two GPUs: memory of their own, and one is lost", [] {
    ChangedDriver options;
    options->devices = 2;
    CudaBackend first(emu::driver(), 0, {}), second(emu::driver(), 1, {});
    const std::unique_ptr<Unet> kept = load_fixture_unet(first);
    const std::vector<float> expected = predict_one(*kept);
    {
      const std::unique_ptr<Unet> unet = load_fixture_unet(second);
      if (!same(predict_one(*unet), expected)) return std::string("the second one's result differs");
      options->fail_launch = 40;
      std::string why = fails(ErrorCode::device_lost, "load them again", [&] { predict_one(*unet); });
      if (!why.empty()) return why;
      if (!second.device().lost()) return std::string("the second one is not lost");
      if (first.device().lost() || !same(predict_one(*kept), expected))
        return std::string("the first one is, too");
    }
    emu::recover();
    const size_t before = first.device().memory_info().free;
    const std::unique_ptr<Unet> unet = load_fixture_unet(second);
    if (first.device().memory_info().free != before) return std::string("it takes the other one's memory");
    options->memory = static_cast<size_t>(options->memory - second.device().memory_info().free) + (4 << 10);
    return fails(ErrorCode::out_of_memory, "MB", [&] { load_fixture_unet(second); });
  });
}

void cancellation() {
  test::test("cuda/driver a call is cancelled anywhere between launches", [] {
    const std::unique_ptr<Unet> unet = load_fixture_unet(backend());
    const std::vector<float> expected = predict_one(*unet);
    return cancel_everywhere(
        20,
        [&](const CancelToken* token) {
          unet->trim();
          predict_one(*unet, token);
        },
        [&] {
          return std::string(same(predict_one(*unet), expected) ? "" : "differs after a call cancelled");
        });
  });
  test::test("cuda/driver several threads at once", [] {
    const std::vector<float> alone = predict_one(*load_fixture_unet(backend()));
    std::vector<std::vector<float>> outs(3);
    std::vector<std::thread> threads;
    for (std::vector<float>& out : outs)
      threads.emplace_back([&] { out = predict_one(*load_fixture_unet(backend())); });
    for (std::thread& thread : threads) thread.join();
    for (const std::vector<float>& out : outs)
      if (!same(out, alone)) return "it differs from what it is alone";
    return "";
  });
}

const Register suite([] {
  if (on_hardware()) return;
  unavailable();
  life();
  several();
  if (!small() && !checks_kernels_alone()) cancellation();
});

}  // namespace
}  // namespace nd::cuda_test
