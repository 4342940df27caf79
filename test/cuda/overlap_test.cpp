// Kernels that overlap: models compute the same bits, and a trial finds out whether that is faster.
#include "changed_driver.h"
#include "cuda/devices.h"
#include "cuda/layers/product_plan.h"
#include "cuda/trial/overlap_trial.h"
#include "driver.h"
#include "emulator.h"
#include "fixture_models.h"
#include "left_behind.h"
#include "support.h"
#include "unet/unet.h"
#include "weights/formats/half.h"

namespace nd::cuda_test {
namespace {

using namespace nd::cuda;

constexpr const char* kForced = "NODE_DIFFUSION_CUDA_OVERLAP";

double launch_time(const char*, int64_t, const void*) {
  return 2.5;
}

/// A Hopper GPU whose kernels take the same time each, and 1.5 µs where they overlap.
class Hopper : public ChangedDriver {
 public:
  Hopper() {
    (*this)->capability = 90;
    (*this)->launch_time = launch_time;
    (*this)->overlapped_share = 0.6;
    // Nothing else is tried.
    set_environment("NODE_DIFFUSION_CUDA_TILES", "0");
    set_environment("NODE_DIFFUSION_CUDA_WGMMA", "0");
  }
  Hopper(const Hopper&) = delete;
  Hopper& operator=(const Hopper&) = delete;
  ~Hopper() {
    for (const char* name : {"NODE_DIFFUSION_CUDA_TILES", "NODE_DIFFUSION_CUDA_WGMMA", kForced})
      set_environment(name, "");
  }
};

/// What the trial says, which must leave nothing behind and the device as it was.
std::string tried(Device& device, const std::string& expected, bool on) {
  const emu::DriverCounts before = emu::driver_counts;
  const OverlapVerdict verdict = try_overlap(device);
  if (verdict.note != expected) return "it says: " + verdict.note;
  if (verdict.on != on) return on ? "it is off" : "it is on";
  if (device.overlapping_launches()) return "the device is changed";
  return left_behind(before);
}

void models() {
  test::test("cuda/overlap models compute the same bits", []() -> std::string {
    ChangedDriver driver;
    driver->capability = 90;
    CudaBackend own(on_hardware() ? system_driver() : emu::driver(), 0, image());
    Device& device = own.device();
    if (!device.can_overlap_launches()) return device.capability() < 90 ? "" : "it cannot";
    const auto predict = [&] {
      const std::unique_ptr<Unet> unet = load_fixture_unet(own);
      std::vector<float> last;
      for (int i = 0; i < 3; ++i) last = predict_one(*unet);  // then it is a graph
      return last;
    };
    const emu::DriverCounts before = emu::driver_counts;
    const std::vector<float> plain = predict();
    if (emu::driver_counts.overlapping != before.overlapping) return "kernels overlap before they may";
    device.use_overlapping_launches(true);
    const std::vector<float> overlapping = predict();
    if (!on_hardware() && emu::driver_counts.overlapping == before.overlapping) return "no kernel overlaps";
    const std::string why = same(overlapping, plain) ? "" : "other bits";
    return why.empty() ? faults() : why;
  });
}

/// y = x·wᵀ of 128 rows of x and 64 of w, by Hopper's kernel.
void multiply(Device& device, StreamHandle stream, const Buffer& x, const Buffer& w, const Buffer& y,
              bool constant) {
  ProductArgs a{};
  a.x = pointer<half>(x.address()), a.weights = pointer<half>(w.address()), a.y = pointer<half>(y.address());
  a.m = a.w = a.grid_w = a.grid_pixels = a.out_w = 128;
  a.o = a.y_columns = a.c = 64;
  a.chunks = a.weights_chunks = 8;
  a.h = a.out_h = a.stride = a.kernel_w = a.out_step = a.parities = 1;
  a.alpha = 1;
  a.constant_weights = constant;
  const ProductPlan plan = plan_hopper_tile(a, true, 0, 1);
  a.splits = plan.splits, a.split_steps = plan.split_steps, a.span = plan.span;
  device.launch(stream, plan.kernel, plan.grid, hopper_arguments(device.driver(), a, plan));
}

/// Of which the second one's weights are the result of the first one.
std::vector<uint16_t> two_products(Device& device, bool constant) {
  constexpr size_t kX = 128 * 64, kW = 64 * 64;
  std::vector<uint16_t> values(kX);
  for (size_t i = 0; i < kX; ++i) values[i] = float_to_half(static_cast<float>(i % 7) * 0.125f - 0.25f);
  const Buffer x(device, 2 * kX), w(device, 2 * kW), first(device, 2 * kX), second(device, 2 * kX);
  x.fill(values.data(), 2 * kX);
  w.fill(values.data(), 2 * kW);
  const Device::Current current(device);
  const Device::Stream stream(device);
  multiply(device, stream.handle(), x, w, first, true);
  multiply(device, stream.handle(), x, first, second, constant);
  std::vector<uint16_t> result(kX);
  device.download(result.data(), second.address(), 2 * kX, stream.handle());
  return result;
}

void early_weights() {
  if (on_hardware() || emu::checking) return;  // which does not follow mbarriers
  test::test("cuda/overlap weights are read early only where no kernel writes them", []() -> std::string {
    ChangedDriver driver;
    driver->capability = 90;
    driver->keeps_earlier = true;
    CudaBackend own(emu::driver(), 0, image());
    Device& device = own.device();
    const std::vector<uint16_t> expected = two_products(device, false);
    device.use_overlapping_launches(true);
    if (two_products(device, false) != expected) return "other bits where they are not constant";
    return two_products(device, true) != expected ? faults()
                                                  : "the emulator does not notice weights read early";
  });
  test::test("cuda/overlap Hopper's products of a UNet", []() -> std::string {
    ChangedDriver driver;
    driver->capability = 90;
    driver->keeps_earlier = true;
    CudaBackend own(emu::driver(), 0, image());
    own.device().use_warpgroup_products(WarpgroupProducts::all);
    const std::unique_ptr<Unet> unet = load_fixture_unet(own);
    const std::vector<float> plain = predict_one(*unet);
    own.device().use_overlapping_launches(true);
    return same(predict_one(*unet), plain) ? faults() : "other bits";
  });
}

void trials() {
  test::test("cuda/overlap the trial: faster", [] {
    Hopper gpu;
    CudaBackend own(emu::driver(), 0, {});
    return tried(own.device(), "on: small kernels take 60 % of their time", true);
  });
  test::test("cuda/overlap the trial: no faster", [] {
    Hopper gpu;
    gpu->overlapped_share = 0.97;
    CudaBackend own(emu::driver(), 0, {});
    return tried(own.device(), "off: no faster", false);
  });
  test::test("cuda/overlap the trial: other results", [] {
    Hopper gpu;
    gpu->loses_overlapped = true;
    CudaBackend own(emu::driver(), 0, {});
    return tried(own.device(), "off: kernels that overlap compute something else", false);
  });
  test::test("cuda/overlap the trial: a driver that refuses", [] {
    Hopper gpu;
    gpu->refuses_overlapped = true;
    CudaBackend own(emu::driver(), 0, {});
    const std::string why =
        tried(own.device(), "off: step_operations: CUDA_ERROR_NOT_SUPPORTED (801)", false);
    return !why.empty() ? why : own.device().lost() ? "the device is lost" : "";
  });
  test::test("cuda/overlap the trial: too little memory", [] {
    Hopper gpu;
    CudaBackend own(emu::driver(), 0, {});
    gpu->memory = static_cast<size_t>(emu::driver_counts.bytes) + 1000;
    const OverlapVerdict verdict = try_overlap(own.device());
    if (!verdict.may_pass) return std::string("it may not pass");
    return verdict.note.rfind("off: Could not allocate", 0) == 0 ? "" : "it says: " + verdict.note;
  });
  test::test("cuda/overlap the trial: cancelled anywhere", [] {
    Hopper gpu;
    CudaBackend own(emu::driver(), 0, {});
    const emu::DriverCounts before = emu::driver_counts;
    return cancel_everywhere(
        6, [&](const CancelToken* token) { try_overlap(own.device(), token); },
        [&] { return left_behind(before); });
  });
  test::test("cuda/overlap the trial: a kernel that fails", [] {
    Hopper gpu;
    CudaBackend own(emu::driver(), 0, {});
    return loses_the_gpu(40, [&] { try_overlap(own.device()); });
  });
}

void choices() {
  test::test("cuda/overlap tried once for each GPU of the process", []() -> std::string {
    Hopper gpu;
    gpu->devices = 16;
    const Driver& driver = emu::driver();
    const auto note = [&] { return list_devices(driver)[11].overlap; };
    if (!note().empty()) return "a list tries";
    if (!open_device(driver, 11, {})->device().overlapping_launches()) return "it is off: " + note();
    if (note() != "on: small kernels take 60 % of their time") return note();
    gpu->overlapped_share = 1;
    // The GPU is closed and opened again.
    return open_device(driver, 11, {})->device().overlapping_launches() ? "" : "tried again";
  });
  test::test("cuda/overlap NODE_DIFFUSION_CUDA_OVERLAP", []() -> std::string {
    Hopper gpu;
    gpu->devices = 16;
    std::string why;
    for (const char* value : {"1", "0"}) {
      set_environment(kForced, value);
      const auto opened = open_device(emu::driver(), 12, {});
      const bool on = opened->device().overlapping_launches();
      const std::string note = list_devices(emu::driver())[12].overlap;
      if (on != (*value == '1')) why = std::string("with ") + value + " it is " + (on ? "on" : "off");
      if (note != std::string(on ? "on" : "off") + ": NODE_DIFFUSION_CUDA_OVERLAP says so") why = note;
    }
    return why;
  });
  test::test("cuda/overlap tried again where memory was short", []() -> std::string {
    Hopper gpu;
    gpu->devices = 16;
    const size_t memory = gpu->memory;
    gpu->memory = static_cast<size_t>(emu::driver_counts.bytes) + 1000;
    if (open_device(emu::driver(), 14, {})->device().overlapping_launches()) return "it is on";
    gpu->memory = memory;
    return open_device(emu::driver(), 14, {})->device().overlapping_launches() ? "" : "not tried again";
  });
  test::test("cuda/overlap a trial that loses the GPU", []() -> std::string {
    Hopper gpu;
    gpu->devices = 16;
    gpu->fail_launch = 3;
    try {
      open_device(emu::driver(), 15, {});
      return "no error";
    } catch (const Error& error) {
      std::string what = error.what();
      if (error.code() != ErrorCode::device_lost || what.find(kForced) == std::string::npos) return what;
    }
    emu::recover();
    return open_device(emu::driver(), 15, {})->device().overlapping_launches() ? "it is on" : "";
  });
  test::test("cuda/overlap not on GPUs before Hopper", []() -> std::string {
    Hopper gpu;
    gpu->capability = 89;
    gpu->devices = 16;
    set_environment(kForced, "1");
    const auto opened = open_device(emu::driver(), 13, {});
    if (opened->device().overlapping_launches()) return "it is on";
    return list_devices(emu::driver())[13].overlap;
  });
}

const Register suite([] {
  models();
  early_weights();
  if (on_hardware()) return;
  trials();
  choices();
});

}  // namespace
}  // namespace nd::cuda_test
