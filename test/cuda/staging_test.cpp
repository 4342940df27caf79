// Copies between the host and a GPU through pinned memory: what the emulator finds where the host does not
// wait, that the backend does wait, and that it does without such memory.
#include "cuda/staging.h"

#include <thread>

#include "changed_driver.h"
#include "driver.h"
#include "emulator.h"
#include "fixture_models.h"
#include "support.h"
#include "unet/unet.h"
#include "weights/formats/traits.h"

namespace nd::cuda_test {
namespace {

using namespace nd::cuda;

constexpr size_t kPart = Staging::kPart;

// --- on hardware as well ---

std::vector<uint8_t> numbers(size_t count, const std::string& seed) {
  Random random(seed);
  std::vector<uint8_t> result(count);
  for (uint8_t& value : result) value = static_cast<uint8_t>(random.next());
  return result;
}

/// There and back, in pieces of these sizes, all of them before anything is waited for.
std::string round_trip(const std::vector<size_t>& sizes) {
  Device& device = backend().device();
  size_t total = 0;
  for (const size_t size : sizes) total += size;
  const std::vector<uint8_t> values = numbers(total, "round trip");
  const Array x(static_cast<int64_t>(total));
  const Device::Current current(device);
  const Device::Stream stream(device);
  Staging& staging = stream.staging();
  const Address to{reinterpret_cast<uintptr_t>(x.as<uint8_t>())};
  size_t at = 0;
  for (const size_t size : sizes) {
    staging.upload(to + at, values.data() + at, size);
    at += size;
  }
  std::vector<uint8_t> back(total);
  at = 0;
  for (const size_t size : sizes) {
    staging.download(back.data() + at, to + at, size);
    at += size;
  }
  for (size_t i = 0; i < total; ++i)
    if (back[i] != values[i]) return "byte " + std::to_string(i) + " differs";
  return "";
}

void copies() {
  const std::vector<std::vector<size_t>> all = {{1},
                                                {kPart - 1, 1, 1},
                                                {kPart, 3},
                                                {5, kPart, 5, kPart, 5},
                                                {kPart + 1},
                                                {100, 2 * kPart + 100},
                                                {3 * kPart + 7, 3 * kPart + 7},
                                                {kPart / 2, kPart / 2, kPart / 2, kPart / 2, kPart / 2}};
  for (const std::vector<size_t>& sizes : all) {
    std::string name = "cuda/staging there and back";
    for (const size_t size : sizes) name += " " + std::to_string(size);
    in_all_orders(name, [&] { return round_trip(sizes); });
  }
  in_all_orders("cuda/staging more than a part is reserved", [] {
    Device& device = backend().device();
    const size_t size = kPart + 12;
    const std::vector<uint8_t> values = numbers(size, "large");
    const Buffer buffer(device, 2 * size);
    WeightUpload upload(device);
    for (const size_t at : {size_t{0}, size}) {
      uint8_t* part = upload.reserve<uint8_t>(static_cast<int64_t>(size));
      std::copy(values.begin(), values.end(), part);
      upload.send(buffer, at, part, static_cast<int64_t>(size));
    }
    upload.finish();
    std::vector<uint8_t> back(2 * size);
    device.download(back.data(), buffer.address(), 2 * size, nullptr);
    for (size_t i = 0; i < back.size(); ++i)
      if (back[i] != values[i % size]) return "byte " + std::to_string(i) + " differs";
    return std::string();
  });
}

/// A linear layer whose weights are several parts, as `type`; those of q8_0 also as codes and scales apart.
void weights(TensorType type, bool int8) {
  const std::string name = std::string("cuda/staging weights in several parts, ") + name_of(type);
  in_orders({0, 3}, name + (int8 ? ", int8" : ""), [&]() -> std::string {
    const int64_t in = 1600, out = 2800, rows = 1;
    const std::vector<float> values = noise("several parts", in * out), x = random_halves("x", in);
    std::vector<uint8_t> bytes(static_cast<size_t>(stored_bytes(type, in * out)));
    std::vector<float> decoded(values.size());
    traits(type).encode(values.data(), in * out, bytes.data());
    traits(type).decode(scalar_decoders, bytes.data(), in * out, decoded.data());
    if (bytes.size() <= kPart) return "it is one part";
    StoredTensor tensor;
    tensor.name = "weight", tensor.type = type, tensor.shape = {out, in}, tensor.bytes = bytes.size();
    tensor.data = {std::shared_ptr<const uint8_t>(), bytes.data()};
    LinearWeights stored;
    stored.matrices = {tensor}, stored.in = in, stored.out_each = out;
    if (int8) stored.compute = Compute::i8;
    const WeightTable table;
    Loader loader(table, backend());
    const std::unique_ptr<nd::Linear> layer = backend().linear(loader, stored, {});
    std::vector<float> got(static_cast<size_t>(out));
    Workspace(backend()).run(nullptr, [&](ForwardContext& ctx) {
      const Tensor a = backend().from_planar(ctx, x.data(), 1, in, 1, rows);
      backend().to_planar(ctx, layer->forward(ctx, a), got.data());
    });
    std::vector<float> want;
    for (int64_t o = 0; o < out; ++o) {
      double sum = 0;
      for (int64_t i = 0; i < in; ++i)
        sum += static_cast<double>(x[static_cast<size_t>(i)]) * decoded[static_cast<size_t>(o * in + i)];
      want.push_back(static_cast<float>(sum));
    }
    return within(got, want, 3e-2);
  });
}

// --- what the emulator finds ---

/// Copies through pinned memory with a fault that `plant` makes, which must be found where streams are late.
template <class Plant>
void found(const std::string& what, const Plant& plant) {
  test::test("cuda/staging planted: " + what, [&]() -> std::string {
    const bool quiet = emu::quiet;
    emu::quiet = true;
    Device& device = backend().device();
    const Driver& driver = device.driver();
    const Device::Current current(device);
    void* memory = nullptr;
    check(driver, driver.host_allocate(&memory, 4096, 0), "pinned memory");
    std::fill_n(static_cast<uint8_t*>(memory), 4096, uint8_t{7});
    bool wrong;
    {
      const Device::Stream stream(device);
      wrong = plant(driver, stream.handle(), static_cast<uint8_t*>(memory));
    }
    driver.host_release(memory);
    const bool fault = !faults().empty();
    emu::quiet = quiet;
    return wrong || fault ? "" : "it was not found";
  });
}

void planted() {
  found("the host writes before a copy is done",
        [](const Driver& driver, StreamHandle stream, uint8_t* memory) {
          const Array x(4096);
          const DevicePointer to = reinterpret_cast<DevicePointer>(x.as<uint8_t>());
          driver.copy_to_device(to, memory, 4096, stream);
          memory[4095] = 8;
          driver.stream_synchronize(stream);
          return false;  // the emulator says so
        });
  found("the host reads before a copy is done",
        [](const Driver& driver, StreamHandle stream, uint8_t* memory) {
          const Array x = Array::floats(std::vector<float>(1024, 1.5f));
          driver.copy_to_host(memory, reinterpret_cast<DevicePointer>(x.as<uint8_t>()), 4096, stream);
          float value = 0;
          std::memcpy(&value, memory, sizeof value);
          driver.stream_synchronize(stream);
          return value != 1.5f;
        });
  found("memory is freed before a copy is done", [](const Driver& driver, StreamHandle stream, uint8_t*) {
    const Array x(4096);
    void* own = nullptr;
    driver.host_allocate(&own, 4096, 0);
    driver.copy_to_device(reinterpret_cast<DevicePointer>(x.as<uint8_t>()), own, 4096, stream);
    driver.host_release(own);
    return false;
  });
  found("another stream reads before a copy is done",
        [](const Driver& driver, StreamHandle stream, uint8_t* memory) {
          const Array x = Array::floats(std::vector<float>(1024, 1.5f));
          const DevicePointer at = reinterpret_cast<DevicePointer>(x.as<uint8_t>());
          driver.copy_to_device(at, memory, 4096, stream);
          std::vector<uint8_t> seen(4096);
          driver.copy_to_host(seen.data(), at, 4096, nullptr);
          driver.stream_synchronize(stream);
          return seen[0] != 7;
        });
  test::test("cuda/staging planted: a part is used again without waiting", [] {
    // As Staging would be without its events.
    const bool quiet = emu::quiet;
    emu::quiet = true;
    const Driver& driver = backend().device().driver();
    const Device::Current current(backend().device());
    void* memory = nullptr;
    driver.host_allocate(&memory, 64, 0);
    {
      const Array x(256);
      const Device::Stream stream(backend().device());
      for (size_t i = 0; i < 4; ++i) {
        std::fill_n(static_cast<uint8_t*>(memory), 64, static_cast<uint8_t>(i));
        driver.copy_to_device(reinterpret_cast<DevicePointer>(x.as<uint8_t>()) + 64 * i, memory, 64,
                              stream.handle());
      }
    }
    driver.host_release(memory);
    emu::quiet = quiet;
    return std::string(faults() == "3 faults" ? "" : "it was not found");
  });
}

// --- models ---

void models() {
  test::test("cuda/staging without pinned memory", []() -> std::string {
    const emu::DriverCounts before = emu::driver_counts;
    CudaBackend with(emu::driver(), 0, {});
    const std::vector<float> expected = predict_one(*load_fixture_unet(with));
    if (emu::driver_counts.pinned != before.pinned + static_cast<int64_t>(Staging::kBytes))
      return std::to_string(emu::driver_counts.pinned - before.pinned) + " bytes are pinned";
    ChangedDriver options;
    options->pinned = emu::driver_counts.pinned;
    CudaBackend without(emu::driver(), 0, {});
    if (!same(predict_one(*load_fixture_unet(without)), expected)) return "results differ";
    return emu::driver_counts.pinned == before.pinned + static_cast<int64_t>(Staging::kBytes)
               ? ""
               : "memory was pinned";
  });
  test::test("cuda/staging pinned memory is freed", []() -> std::string {
    const emu::DriverCounts before = emu::driver_counts;
    {
      CudaBackend own(emu::driver(), 0, {});
      const std::unique_ptr<Unet> unet = load_fixture_unet(own);
      const std::vector<float> expected = predict_one(*unet);
      // More streams at once than keep their memory.
      std::vector<std::thread> threads;
      for (int i = 0; i < 4; ++i) threads.emplace_back([&] { predict_one(*load_fixture_unet(own)); });
      for (std::thread& thread : threads) thread.join();
      const int64_t kept = emu::driver_counts.pinned - before.pinned;
      if (kept > 2 * static_cast<int64_t>(Staging::kBytes)) return std::to_string(kept) + " bytes are kept";
      if (!same(predict_one(*unet), expected)) return "results differ";
    }
    if (emu::driver_counts.pinned != before.pinned) return "dispose leaves pinned memory";
    if (emu::driver_counts.events != before.events) return "dispose leaves events";
    ChangedDriver options;
    options->devices = 2;
    {
      CudaBackend lost(emu::driver(), 1, {});
      const std::unique_ptr<Unet> unet = load_fixture_unet(lost);
      options->fail_launch = 10;
      try {
        predict_one(*unet);
        return "it was not lost";
      } catch (const Error&) {
      }
    }
    emu::recover();
    return emu::driver_counts.pinned == before.pinned ? "" : "a lost device leaves pinned memory";
  });
  test::test("cuda/staging a load that is cancelled anywhere", []() -> std::string {
    const std::vector<float> expected = predict_one(*load_fixture_unet(backend()));
    const emu::DriverCounts before = emu::driver_counts;
    return cancel_everywhere(
        12, [](const CancelToken* token) { load_fixture_unet(backend(), token); },
        [&]() -> std::string {
          if (std::string why = faults(); !why.empty()) return why;
          if (emu::driver_counts.bytes != before.bytes) return "weights are left";
          return same(predict_one(*load_fixture_unet(backend())), expected) ? "" : "the next one differs";
        });
  });
}

const Register suite([] {
  copies();
  weights(TensorType::f32, false);
  weights(TensorType::q8_0, false);
  weights(TensorType::q8_0, true);
  if (on_hardware()) return;
  planted();
  if (!checks_kernels_alone()) models();
});

}  // namespace
}  // namespace nd::cuda_test
