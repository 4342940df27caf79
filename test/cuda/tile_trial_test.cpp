// The trial of products' tiles: kernels are chosen by what was measured where that promises a gain, by what
// is built in otherwise, and it leaves nothing behind.
#include "cuda/trial/tile_trial.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <vector>

#include "cuda/devices.h"
#include "cuda/layers/product_plan.h"
#include "driver.h"
#include "emulator.h"
#include "fixture_models.h"
#include "left_behind.h"
#include "support.h"
#include "unet/unet.h"

namespace nd::cuda_test {
namespace {

using namespace nd::cuda;

constexpr int kMultiprocessors = 64;
constexpr const char* kMeasured = "measured on this GPU";

/// What the emulated GPU's kernels take.
TileTimes truth;
double card = 1, noise = 0;  // noise: times vary by this part of them

const TileTime* time_of(const char* kernel) {
  struct Row {
    const char* name;
    const TileTime* time;
  };
  const Row rows[] = {
      {"product_large_pointwise", &truth.halves[0]}, {"product_narrow_pointwise", &truth.halves[1]},
      {"product_small_pointwise", &truth.halves[2]}, {"product_square_pointwise", &truth.halves[3]},
      {"product_int8_small", &truth.int8[0]},        {"product_int8_narrow", &truth.int8[1]},
      {"product_int8_large", &truth.int8[2]}};
  for (const Row& row : rows)
    if (std::strcmp(row.name, kernel) == 0) return row.time;
  return nullptr;
}

double launch_time(const char* kernel, int64_t blocks, const void* arguments) {
  const TileTime* time = time_of(kernel);
  if (!time) return 1;
  // Of Int8ProductArgs this is the first field.
  const ProductArgs& args = *static_cast<const ProductArgs*>(arguments);
  static uint32_t state = 1;
  state = state * 1664525u + 1013904223u;
  const double factor = 1 + noise * (static_cast<double>(state >> 8) * 0x1p-23 - 1);
  return card * factor * cost_of_blocks(args, *time, blocks, args.split_steps, 1, kMultiprocessors);
}

int launches = 0;

/// It takes some hundred launches until the clock is what it will be.
double rising_clock(const char* kernel, int64_t blocks, const void* arguments) {
  constexpr int kUntilFast = 350;
  const double slower = std::max(1.0, 3.0 - 2.0 * ++launches / kUntilFast);
  return slower * launch_time(kernel, blocks, arguments);
}

int resident_blocks(const char* kernel) {
  const TileTime* time = time_of(kernel);
  return time ? time->resident : 1;
}

double busy(const char*, int64_t, const void*) {
  return 1e4;
}

/// A GPU whose kernels take the times above, for as long as this lives.
class TimedGpu {
 public:
  TimedGpu() : before_(emu::driver_options), quiet_(emu::quiet) {
    emu::driver_options.multiprocessors = kMultiprocessors;
    emu::driver_options.launch_time = launch_time;
    emu::driver_options.resident_blocks = resident_blocks;
    emu::quiet = true;
    truth = kBuiltInTimes, card = 1, noise = 0;
  }
  ~TimedGpu() {
    emu::driver_options = before_;
    emu::quiet = quiet_;
    set_environment("NODE_DIFFUSION_CUDA_TILES", "");
  }
  TimedGpu(const TimedGpu&) = delete;
  TimedGpu& operator=(const TimedGpu&) = delete;
  emu::DriverOptions* operator->() { return &emu::driver_options; }

 private:
  emu::DriverOptions before_;
  bool quiet_;
};

ProductArgs linear(int64_t m, int64_t o, int64_t c) {
  ProductArgs a{};
  a.m = a.grid_w = a.grid_pixels = a.w = a.out_w = narrow(m);
  a.o = a.y_columns = narrow(o), a.c = narrow(c);
  a.chunks = a.weights_chunks = a.c / 8;
  a.h = a.stride = a.kernel_w = a.out_h = a.out_step = a.parities = 1;
  return a;
}

/// Linear layers of Stable Diffusion 1.5 and XL, and others.
std::vector<ProductArgs> layers() {
  std::vector<ProductArgs> result;
  for (const int64_t m : {77, 128, 512, 2048, 8192, 32768})
    for (const int64_t o : {64, 320, 640, 1280, 5120, 10240})
      for (const int64_t c : {64, 320, 768, 1280, 5120}) result.push_back(linear(m, o, c));
  return result;
}

/// What the GPU takes for a plan.
double true_time(const ProductArgs& args, const ProductPlan& plan) {
  const TileTime* time = time_of(kKernels[static_cast<int>(plan.kernel)].name);
  return cost_of_blocks(args, *time, plan.grid.x * plan.grid.y * plan.grid.z, plan.split_steps, plan.splits,
                        kMultiprocessors);
}

bool same_plan(const ProductPlan& a, const ProductPlan& b) {
  return a.kernel == b.kernel && a.splits == b.splits;
}

bool same_times(const TileTimes& a, const TileTimes& b) {
  const auto same = [](const TileTime& x, const TileTime& y) {
    return x.resident == y.resident && x.latency == y.latency && x.step == y.step && x.block == y.block;
  };
  return std::equal(std::begin(a.halves), std::end(a.halves), std::begin(b.halves), same) &&
         std::equal(std::begin(a.int8), std::end(a.int8), std::begin(b.int8), same);
}

/// That the trial finds what the GPU takes: of all layers, no choice is much slower than the best one.
std::string finds_the_best(Device& device) {
  const TileVerdict verdict = try_tiles(device);
  if (verdict.note != kMeasured) return verdict.note;
  device.use_tile_times(verdict.times);
  double worst = 1;
  int changed = 0;
  for (const ProductArgs& args : layers()) {
    const ProductPlan chosen = plan_product(args, true, device);
    double best = true_time(args, chosen);
    for (int tile = 0; tile < kTiles; ++tile)
      for (int splits = 1; splits <= std::max<int64_t>(1, std::min<int64_t>(16, args.c / 128)); ++splits)
        best = std::min(best, true_time(args, plan_tile(args, true, tile, splits)));
    worst = std::max(worst, true_time(args, chosen) / best);
    changed += !same_plan(chosen, plan_product(args, true, device, kBuiltInTimes));
    if (!suits_int8(args)) continue;
    const ProductPlan int8 = plan_int8(args, device);
    changed += !same_plan(int8, plan_int8(args, device, kBuiltInTimes));
  }
  if (changed == 0) return "no layer has another kernel";
  // kMinGain is not worth a change.
  return worst <= 1 / (1 - kMinGain) + 0.01 ? "" : "a choice takes " + text(worst) + " times the best";
}

void choices() {
  test::test("cuda/tiles another GPU gets the kernels that are the fastest there", []() -> std::string {
    TimedGpu gpu;
    CudaBackend own(emu::driver(), 0, {});
    Device& device = own.device();
    const emu::DriverCounts before = emu::driver_counts;
    for (const double slower : {1.0, 3.0}) {
      card = slower;
      const TileTime halves[kTiles] = {
          {2, 0.9, 0.8, 12}, {2, 0.5, 0.2, 8}, {6, 0.25, 0.06, 3}, {1, 0.9, 0.9, 12}};
      const TileTime int8[kInt8TileCount] = {{4, 0.3, 0.08, 4}, {2, 0.8, 0.5, 9}, {1, 1.2, 1.1, 15}};
      std::copy(std::begin(halves), std::end(halves), truth.halves);
      std::copy(std::begin(int8), std::end(int8), truth.int8);
      if (std::string why = finds_the_best(device); !why.empty()) return why;
      if (plan_int8(linear(8192, 1280, 1280), device).kernel != Kernel::product_int8_small)
        return "int8 has another tile";
    }
    return left_behind(before);
  });
  test::test("cuda/tiles a GPU like the one of the built-in times keeps its kernels, though times vary",
             []() -> std::string {
               TimedGpu gpu;
               CudaBackend own(emu::driver(), 0, {});
               Device& device = own.device();
               for (const double of : {0.7, 2.0}) {
                 card = of, noise = 0.02;
                 const TileVerdict verdict = try_tiles(device);
                 if (verdict.note != kMeasured) return verdict.note;
                 if (same_times(verdict.times, kBuiltInTimes)) return "nothing was measured";
                 device.use_tile_times(verdict.times);
                 int changed = 0;
                 for (const ProductArgs& args : layers())
                   changed += !same_plan(plan_product(args, true, device),
                                         plan_product(args, true, device, kBuiltInTimes));
                 if (changed > 0) return std::to_string(changed) + " layers have others";
               }
               return "";
             });
  test::test("cuda/tiles a clock that rises meanwhile changes nothing", []() -> std::string {
    TimedGpu gpu;
    CudaBackend own(emu::driver(), 0, {});
    gpu->launch_time = rising_clock;
    launches = 0;
    const TileVerdict verdict = try_tiles(own.device());
    if (verdict.note != kMeasured) return verdict.note;
    for (int tile = 0; tile < kTiles; ++tile)
      if (std::fabs(verdict.times.halves[tile].step / kBuiltInTimes.halves[tile].step - 1) > 0.02)
        return "tile " + std::to_string(tile) + " takes " + text(verdict.times.halves[tile].step);
    return "";
  });
  test::test("cuda/tiles whether weights are multiplied as int8 does not depend on what was measured",
             []() -> std::string {
               TimedGpu gpu;
               CudaBackend own(emu::driver(), 0, {});
               Device& device = own.device();
               const auto int8 = [&] {
                 std::vector<bool> result;
                 for (const ProductArgs& args : layers())
                   result.push_back(prefers_int8(args, true, false, {}, device));
                 return result;
               };
               const std::vector<bool> before = int8();
               if (std::count(before.begin(), before.end(), true) == 0) return "none is";
               TileTimes slow;
               for (TileTime& time : slow.int8) time.latency *= 50, time.step *= 50;
               device.use_tile_times(slow);
               return int8() == before ? "" : "it does";
             });
  test::test("cuda/tiles models compute the same within rounding", []() -> std::string {
    const std::vector<float> expected = predict_one(*load_fixture_unet(backend()));
    TimedGpu gpu;
    CudaBackend own(emu::driver(), 0, {});
    TileTimes times;
    for (const int slow : {0, 1, 3}) times.halves[slow].latency = times.halves[slow].step = 100;
    times.halves[2].block = 1e4;  // splits cost much
    own.device().use_tile_times(times);
    emu::driver_options.launch_time = nullptr;
    return within(predict_one(*load_fixture_unet(own)), expected, 4e-3);
  });
}

std::string built_in(const TileVerdict& verdict, const char* why) {
  if (!same_times(verdict.times, kBuiltInTimes)) return "other times";
  return verdict.note == std::string("built in: ") + why ? "" : "it says: " + verdict.note;
}

void refusals() {
  test::test("cuda/tiles nothing is measured on a GPU that is busy", [] {
    TimedGpu gpu;
    CudaBackend own(emu::driver(), 0, {});
    const emu::DriverCounts before = emu::driver_counts;
    gpu->launch_time = busy;
    const std::string why = built_in(try_tiles(own.device()), "the GPU is busy or too slow to measure");
    return why.empty() ? left_behind(before) : why;
  });
  test::test("cuda/tiles nor where memory is short", [] {
    TimedGpu gpu;
    CudaBackend own(emu::driver(), 0, {});
    const emu::DriverCounts before = emu::driver_counts;
    gpu->memory = static_cast<size_t>(emu::driver_counts.bytes) + (1 << 20);
    const std::string why = built_in(try_tiles(own.device()), "too little memory to measure");
    return why.empty() ? left_behind(before) : why;
  });
  test::test("cuda/tiles nor against NODE_DIFFUSION_CUDA_TILES", [] {
    TimedGpu gpu;
    CudaBackend own(emu::driver(), 0, {});
    set_environment("NODE_DIFFUSION_CUDA_TILES", "0");
    const int64_t launches = emu::driver_counts.launches;
    const std::string why = built_in(try_tiles(own.device()), "NODE_DIFFUSION_CUDA_TILES says so");
    return !why.empty() ? why : emu::driver_counts.launches == launches ? "" : "kernels were started";
  });
  test::test("cuda/tiles times that say nothing", [] {
    TileVerdict verdict;
    const TileTimes times = fit_tiles(kBuiltInTimes, verdict);
    return std::string(same_times(times, kBuiltInTimes) ? "" : "other times");
  });
  test::test("cuda/tiles cancelled anywhere", [] {
    TimedGpu gpu;
    CudaBackend own(emu::driver(), 0, {});
    const emu::DriverCounts before = emu::driver_counts;
    return cancel_everywhere(
        6, [&](const CancelToken* token) { try_tiles(own.device(), token); },
        [&] { return left_behind(before); });
  });
  test::test("cuda/tiles a kernel that fails", [] {
    TimedGpu gpu;
    CudaBackend own(emu::driver(), 0, {});
    return loses_the_gpu(40, [&] { try_tiles(own.device()); });
  });
  test::test("cuda/tiles once for each GPU of the process", []() -> std::string {
    TimedGpu gpu;
    gpu->devices = 12;
    const Driver& driver = emu::driver();
    const auto note = [&] { return list_devices(driver)[10].tiles; };
    if (!note().empty()) return "a list measures";
    CancelToken cancelled;
    cancelled.cancel();
    try {
      open_device(driver, 10, {}, &cancelled);
      return "it was not cancelled";
    } catch (const Cancelled&) {
    }
    if (!note().empty()) return "cancelled: " + note();
    truth.halves[2].step /= 4, truth.halves[2].latency /= 4;
    const TileTime first = open_device(driver, 10, {})->device().tile_times().halves[2];
    if (note() != kMeasured) return note();
    if (first.step / kBuiltInTimes.halves[2].step > 0.5) return "other times";
    truth = kBuiltInTimes;
    const TileTime second = open_device(driver, 10, {})->device().tile_times().halves[2];
    return second.step == first.step ? "" : "models on one GPU have other times";
  });
}

const Register suite([] {
  if (on_hardware()) {
    test::test("cuda/tiles on this GPU", []() -> std::string {
      const TileVerdict verdict = try_tiles(backend().device());
      return verdict.note == kMeasured ? "" : verdict.note;
    });
    return;
  }
  test::test("cuda/tiles the emulator is too slow to measure", [] {
    return built_in(try_tiles(backend().device()), "the GPU is busy or too slow to measure");
  });
  // Watching every access takes long.
  if (emu::checking) return;
  choices();
  refusals();
});

}  // namespace
}  // namespace nd::cuda_test
