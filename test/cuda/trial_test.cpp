// The trial of Hopper's kernels: what it measures is what is chosen, whatever goes wrong turns them off and
// leaves models alone, and it leaves nothing behind.
#include "cuda/trial/hopper_trial.h"

#include <chrono>
#include <cmath>
#include <cstring>
#include <future>
#include <thread>

#include "cuda/devices.h"
#include "cuda/layers/attention_hopper.h"
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

bool near(double a, double b) {
  return std::fabs(a - b) <= 1e-9 * std::max(std::fabs(a), std::fabs(b));
}

// --- from times to a choice ---

/// What a tile of these times would give on a GPU where everything takes `card` times as long.
TileMeasurement times_of(const TileTime& time, double card) {
  const auto grid = [&](int steps, int resident) {
    return card * (steps * std::max(time.latency, resident * time.step) + time.block);
  };
  return {grid(kLongSteps, time.resident), grid(kShortSteps, time.resident), grid(kLongSteps, 1)};
}

std::string compare_times(const TileTime& got, const TileTime& expected) {
  if (got.resident == expected.resident && near(got.latency, expected.latency) &&
      near(got.step, expected.step) && near(got.block, expected.block))
    return "";
  return "latency " + text(got.latency) + ", step " + text(got.step) + ", block " + text(got.block);
}

HopperMeasurements measurements(double card) {
  HopperMeasurements m;
  m.modelled_long = 120, m.modelled_short = 40;
  m.everywhere = {120 * card, 40 * card, 70 * card};
  m.tiles[0] = times_of({2, 0.45, 0.25, 5}, card), m.tiles[1] = times_of({1, 0.6, 0.6, 8}, card);
  m.tiles[2] = times_of({1, 0.5, 0.5, 6}, card);
  for (auto& lengths : m.attention) lengths[0] = {10, 8}, lengths[1] = {100, 50};
  return m;
}

void fitting() {
  test::test("cuda/trial fit: a tile's times are found again", [] {
    for (const double card : {1.0, 2.5}) {
      const TileTime truth{2, 0.45, 0.25, 5};
      std::string why = compare_times(fit_tile({2, 9, 9, 9}, times_of(truth, card), card), truth);
      if (!why.empty()) return why;
    }
    return std::string();
  });
  test::test("cuda/trial fit: measurements that contradict each other scale the guess", [] {
    const TileTime guess{2, 0.5, 0.4, 6};
    const TileMeasurement whole = times_of(guess, 1);
    for (const TileMeasurement& odd : {TileMeasurement{2 * whole.long_full, 3 * whole.long_full, 1},
                                       TileMeasurement{2 * whole.long_full, 0.01 * whole.long_full, 1}}) {
      std::string why = compare_times(fit_tile(guess, odd, 1), {2, 1, 0.8, 12});
      if (!why.empty()) return why;
    }
    return std::string();
  });
  test::test("cuda/trial fit: a block alone takes no less than among others, and no more than all of them",
             [] {
               TileMeasurement measured = times_of({2, 0.45, 0.25, 5}, 1);
               measured.long_alone = 1;
               if (!near(fit_tile({2, 1, 1, 1}, measured, 1).latency, 0.25)) return "less";
               measured.long_alone = 1000;
               return near(fit_tile({2, 1, 1, 1}, measured, 1).latency, 0.5) ? "" : "more";
             });
  test::test("cuda/trial fit: the choice", [] {
    HopperMeasurements m = measurements(1.5);
    HopperTimes times = fit_times(m);
    std::string why = compare_times(times.tiles[0], {2, 0.45, 0.25, 5});
    if (!why.empty()) return "tile 0: " + why;
    if (times.attention_tokens[0] != kTriedTokens[0])
      return std::string("attention is faster at all lengths");
    if (!near(attention_gain(m, times), 2)) return "attention's gain: " + text(attention_gain(m, times));
    const double gain = m.everywhere.long_full / std::min(m.tiles[0].long_full, m.tiles[1].long_full);
    if (!near(product_gain(m, times), gain)) return "products' gain: " + text(product_gain(m, times));

    HopperMeasurements small = m;  // where only a block by itself is faster
    small.tiles[0] = {200, 80, 70}, small.tiles[1] = {400, 160, 110};
    small.tiles[2] = {300, 100, 110};
    times = fit_times(small);
    if (!times.has_tile(0) || times.has_tile(1) || times.has_tile(2))
      return std::string("a tile for small products");
    if (!near(product_gain(small, times), 1.5)) return "its gain: " + text(product_gain(small, times));

    small.tiles[0] = {200, 80, 120}, small.tiles[2] = {100, 40, 110};  // for 5/8 of the columns
    times = fit_times(small);
    if (times.has_tile(0) || !times.has_tile(2)) return std::string("a tile with fewer columns");
    if (!near(product_gain(small, times), 1.125)) return "its gain: " + text(product_gain(small, times));

    m.tiles[1] = {200, 200, 200};
    m.attention[2][0] = {8, 10}, m.attention[3][1] = {8, 10};
    times = fit_times(m);
    if (!times.has_tile(0) || times.has_tile(1)) return std::string("tile 1 is nowhere faster");
    if (times.attention_tokens[2] != kTriedTokens[1]) return std::string("attention is faster where long");
    if (times.attention_tokens[3] != HopperTimes::kNever)
      return std::string("attention is slower where long");

    const HopperTimes none = fit_times({});
    if (none.has_tile(0) || none.attention_tokens[0] != HopperTimes::kNever)
      return std::string("without measurements");
    return std::string(product_gain({}, none) == 0 && attention_gain({}, none) == 0 ? "" : "gains of none");
  });
}

// --- on the emulator ---

constexpr double kSlow = 1;  // microseconds of a block

double hopper_time(const char* kernel, int64_t blocks, const void* arguments) {
  const double rounds = std::ceil(static_cast<double>(blocks) / 64);
  if (std::strncmp(kernel, "product_hopper", 14) == 0) {
    const int steps = static_cast<const HopperProductArgs*>(arguments)->product.split_steps;
    return steps * 0.3 * rounds + 4;
  }
  // Short sequences are slow in this kernel.
  if (std::strcmp(kernel, "attention_hopper_160") == 0 && blocks < 64) return 1e4;
  return static_cast<double>(blocks) * (std::strstr(kernel, "hopper") ? 0.5 : 1.0) * kSlow;
}
double slow_time(const char* kernel, int64_t blocks, const void*) {
  return static_cast<double>(blocks) * (std::strstr(kernel, "hopper") ? 2.0 : 1.0) * kSlow;
}

/// Products that take no moments, in the launch before which this is called.
double without_moments(const char* kernel, int64_t blocks, const void* arguments) {
  if (std::strncmp(kernel, "product_hopper", 14) == 0)
    const_cast<HopperProductArgs*>(static_cast<const HopperProductArgs*>(arguments))->product.moments =
        nullptr;
  return static_cast<double>(blocks);
}

/// A Hopper GPU for as long as this lives.
class EmulatedHopper {
 public:
  explicit EmulatedHopper(double (*launch_time)(const char*, int64_t, const void*) = hopper_time)
      : before_(emu::driver_options), quiet_(emu::quiet) {
    emu::driver_options.capability = 90;
    emu::driver_options.multiprocessors = 64;
    emu::driver_options.launch_time = launch_time;
    emu::quiet = true;
    set_environment("NODE_DIFFUSION_CUDA_TILES", "0");
  }
  ~EmulatedHopper() {
    set_environment("NODE_DIFFUSION_CUDA_TILES", "");
    emu::driver_options = before_;
    emu::quiet = quiet_;
    emu::statistics.faults = 0;
  }
  EmulatedHopper(const EmulatedHopper&) = delete;
  EmulatedHopper& operator=(const EmulatedHopper&) = delete;
  emu::DriverOptions* operator->() { return &emu::driver_options; }

 private:
  emu::DriverOptions before_;
  bool quiet_;
};

HopperVerdict attempt(const CancelToken* cancel = nullptr,
                      std::chrono::milliseconds limit = std::chrono::minutes(5)) {
  return try_hopper(emu::driver(), 0, {}, kBuiltInTimes, cancel, limit);
}

/// A convolution of a UNet; nothing is computed.
bool takes_hopper(const Device& device) {
  ProductArgs a{};
  a.m = 8192, a.o = a.c = 320, a.chunks = a.weights_chunks = 360;
  a.grid_w = 64, a.grid_pixels = 4096, a.h = a.w = 64, a.stride = 1, a.pad_y = a.pad_x = 1, a.kernel_w = 3;
  a.out_h = a.out_w = 64, a.out_step = a.parities = 1, a.y_columns = 320;
  return is_hopper(plan_product(a, false, device).kernel);
}

/// A trial that fails for `reason`, while a model is open on the same GPU.
template <class Plant>
void fails(const std::string& what, const std::string& reason, const Plant& plant, bool may_pass = false) {
  test::test("cuda/trial " + what, [&]() -> std::string {
    const std::unique_ptr<Unet> unet = load_fixture_unet(backend());
    const std::vector<float> expected = predict_one(*unet);
    const emu::DriverCounts before = emu::driver_counts;
    HopperVerdict verdict;
    {
      EmulatedHopper hopper;
      plant(hopper);
      verdict = attempt();
    }
    if (verdict.on || verdict.note.find(reason) == std::string::npos) return "it is " + verdict.note;
    if (verdict.note.rfind("off: ", 0) != 0) return "it is " + verdict.note;
    if (verdict.may_pass != may_pass) return may_pass ? "it is final" : "it may pass";
    if (std::string left = left_behind(before); !left.empty()) return left;
    CudaBackend own(emu::driver(), 0, {});
    apply(verdict, own.device());
    if (own.device().warpgroup_products() != WarpgroupProducts::none) return "they are used";
    return predict_one(*unet) == expected ? "" : "the model's results differ afterwards";
  });
}

void verdicts() {
  test::test("cuda/trial passes, and its times choose", []() -> std::string {
    EmulatedHopper hopper;
    const emu::DriverCounts before = emu::driver_counts;
    const HopperVerdict verdict = attempt();
    if (!verdict.on) return "it is " + verdict.note;
    if (verdict.note.rfind("on: products ", 0) != 0) return "unexpected: " + verdict.note;
    if (std::string left = left_behind(before); !left.empty()) return left;
    if (emu::driver_counts.contexts_created != before.contexts_created + 1)
      return "not in a context of its own";
    const TileTime& tile = verdict.times.tiles[0];
    if (std::fabs(tile.block / tile.step - 4 / 0.3) > 1e-3) return "block " + text(tile.block / tile.step);
    if (verdict.times.attention_tokens[0] != 256 || verdict.times.attention_tokens[4] != 1024)
      return "attention's lengths are others";
    CudaBackend own(emu::driver(), 0, {});
    if (takes_hopper(own.device())) return "they are used without a trial";
    apply(verdict, own.device());
    if (!takes_hopper(own.device())) return "a product does not use them";
    if (!attends_by_warpgroups(own.device(), {2, 256, 8, 40}, false) ||
        attends_by_warpgroups(own.device(), {2, 256, 8, 160}, false))
      return "attention is not chosen by the times";
    const std::vector<float> expected = predict_one(*load_fixture_unet(backend()));
    return within(predict_one(*load_fixture_unet(own)), expected, 4e-3);
  });
  fails("a product that writes nothing", "product_hopper_256 is off by", [](EmulatedHopper& h) {
    h->replaced = "product_hopper_256", h->replacement = "planted_hopper_nothing";
  });
  fails("moments that are not taken", "product_hopper_128 is off by",
        [](EmulatedHopper& h) { h->launch_time = without_moments; });
  fails("attention of too small heads", "attention_hopper_160 is off by", [](EmulatedHopper& h) {
    h->replaced = "attention_hopper_160", h->replacement = "attention_hopper_128";
  });
  fails(
      "a barrier that never completes", "product_hopper_128 failed: CUDA_ERROR_LAUNCH_FAILED",
      [](EmulatedHopper& h) { h->replaced = "product_hopper_128", h->replacement = "planted_hopper_hang"; });
  for (const int launch : {0, 1, 17, 300})
    fails("launch " + std::to_string(launch) + " fails", "CUDA_ERROR_LAUNCH_FAILED",
          [=](EmulatedHopper& h) { h->fail_launch = launch; });
  fails(
      "times that are slow", "slower than the kernels for all GPUs",
      [](EmulatedHopper& h) { h->launch_time = slow_time; }, true);
  fails(
      "no memory for a second context", "CUDA_ERROR_OUT_OF_MEMORY",
      [](EmulatedHopper& h) { h->context_bytes = h->memory + 1; }, true);
  fails(
      "no memory for its numbers", "Could not allocate",
      [](EmulatedHopper& h) { h->memory = static_cast<size_t>(emu::driver_counts.bytes) + (4 << 20); }, true);
  test::test("cuda/trial a kernel that does not end", []() -> std::string {
    const std::unique_ptr<Unet> unet = load_fixture_unet(backend());
    const std::vector<float> expected = predict_one(*unet);
    const emu::DriverCounts before = emu::driver_counts;
    EmulatedHopper hopper;
    hopper->never_ready = true;
    HopperVerdict verdict = attempt(nullptr, std::chrono::milliseconds(20));
    if (verdict.on || verdict.note != "off: product_hopper_128 did not end within 0.02 s")
      return "it is " + verdict.note;
    // Closing the context would wait for the kernel.
    if (emu::driver_counts.contexts != before.contexts + 1) return "the context was closed";
    if (predict_one(*unet) != expected) return "the model's results differ afterwards";
    if (!verdict.unfinished || verdict.unfinished->has_ended()) return "it has ended";
    hopper->never_ready = false;
    if (!verdict.unfinished->has_ended()) return "it has not ended";
    verdict.unfinished = nullptr;
    return left_behind(before);
  });
  test::test("cuda/trial cancelled while a kernel does not end", []() -> std::string {
    const emu::DriverCounts before = emu::driver_counts;
    EmulatedHopper hopper;
    hopper->never_ready = true;
    CancelToken cancelled;
    cancelled.cancel();
    try {
      // Long enough for the kernels before, which the emulator runs at once.
      attempt(&cancelled, std::chrono::seconds(2));
    } catch (const Cancelled&) {
    }
    // Closing the context would keep a process that ends from ending.
    return emu::driver_counts.contexts == before.contexts + 1 ? "" : "the context was closed";
  });
  test::test("cuda/trial cancelled anywhere", [] {
    EmulatedHopper hopper;
    const emu::DriverCounts before = emu::driver_counts;
    return cancel_everywhere(
        6, [](const CancelToken* token) { attempt(token); }, [&] { return left_behind(before); });
  });
}

void devices() {
  test::test("cuda/trial once for each GPU of the process", []() -> std::string {
    EmulatedHopper hopper;
    hopper->devices = 4;
    const Driver& driver = emu::driver();
    const emu::DriverCounts before = emu::driver_counts;
    const auto trials = [&] { return emu::driver_counts.contexts_created - before.contexts_created; };
    hopper->capability = 80;
    if (open_device(driver, 3, {})->device().warpgroup_products() != WarpgroupProducts::none || trials() != 0)
      return "another GPU than Hopper was tried";
    hopper->capability = 90;
    if (!list_devices(driver)[2].hopper.empty() || trials() != 0) return "a list tries GPUs";

    CancelToken cancelled;
    cancelled.cancel();
    try {
      open_device(driver, 2, {}, &cancelled);
      return "it was not cancelled";
    } catch (const Cancelled&) {
    }
    if (std::string left = left_behind(before); !left.empty()) return "cancelled: " + left;
    // Two threads want the same one, as models of two workers may.
    std::shared_ptr<CudaBackend> backends[2];
    std::thread other([&] { backends[1] = open_device(driver, 2, {}); });
    backends[0] = open_device(driver, 2, {});
    other.join();
    if (backends[0] != backends[1]) return "two backends";
    if (trials() != 2) return std::to_string(trials()) + " trials";
    if (!takes_hopper(backends[0]->device())) return "they are not used";
    const std::string note = list_devices(driver)[2].hopper;
    if (note.rfind("on: ", 0) != 0) return "the list says: " + note;
    backends[0] = backends[1] = nullptr;
    if (std::string left = left_behind(before); !left.empty()) return left;
    if (!takes_hopper(open_device(driver, 2, {})->device())) return "opened again, they are not used";
    return trials() == 2 ? "" : "opened again, it was tried again";
  });
  test::test("cuda/trial of one GPU while another one is opened", []() -> std::string {
    EmulatedHopper hopper;
    hopper->devices = 6;
    // The trial of GPU 4 stands still until GPU 5 is open.
    static std::promise<void> begins, ends;
    hopper->separate_context = [] {
      begins.set_value();
      ends.get_future().wait();
    };
    std::shared_ptr<CudaBackend> first, second;
    std::thread trial([&] { first = open_device(emu::driver(), 4, {}); });
    begins.get_future().wait();
    hopper->separate_context = nullptr;
    hopper->capability = 80;
    auto other = std::async(std::launch::async, [&] { second = open_device(emu::driver(), 5, {}); });
    const bool waits = other.wait_for(std::chrono::minutes(1)) != std::future_status::ready;
    std::string why = waits ? "it waits for the trial" : "";
    // Whoever wants the same one waits, and can be cancelled meanwhile.
    CancelToken cancelled;
    cancelled.cancel();
    if (!waits) try {
        open_device(emu::driver(), 4, {}, &cancelled);
        why = "it was not cancelled";
      } catch (const Cancelled&) {
      }
    if (!waits && list_devices(emu::driver()).size() != 6) why = "a list";
    ends.set_value();
    trial.join();
    other.wait();
    return why;
  });
  test::test("cuda/trial again after what may pass", []() -> std::string {
    EmulatedHopper hopper;
    hopper->devices = 8;
    const Driver& driver = emu::driver();
    const emu::DriverCounts before = emu::driver_counts;
    const auto trials = [&] { return emu::driver_counts.contexts_created - before.contexts_created; };
    const auto note = [&](size_t number) { return list_devices(driver)[number].hopper; };
    const auto ends = [](const std::string& text, const std::string& end) {
      return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
    };

    // Another process has the memory, and then has not.
    hopper->launch_time = slow_time;
    const std::shared_ptr<CudaBackend> first = open_device(driver, 6, {});
    if (trials() != 1 || !ends(note(6), " (trial 1 of 3; the next load tries again)")) return note(6);
    const std::unique_ptr<Unet> unet = load_fixture_unet(*first);
    const std::vector<float> expected = predict_one(*unet);
    if (open_device(driver, 6, {}) != first) return "a second backend without need";
    if (trials() != 2 || !ends(note(6), " (trial 2 of 3; the next load tries again)")) return note(6);
    hopper->launch_time = hopper_time;
    const std::shared_ptr<CudaBackend> second = open_device(driver, 6, {});
    if (trials() != 3 || note(6).rfind("on: ", 0) != 0) return note(6);
    if (!takes_hopper(second->device()) || takes_hopper(first->device())) return "the wrong one uses them";
    if (predict_one(*unet) != expected) return "a model that is open computes something else";
    if (open_device(driver, 6, {}) != second || trials() != 3) return "tried once more";

    // Three times at most.
    hopper->launch_time = slow_time;
    for (int i = 0; i < 5; ++i) open_device(driver, 7, {});
    if (trials() != 6 || !ends(note(7), "slower than the kernels for all GPUs (trial 3 of 3)"))
      return note(7);
    // Wrong results are final.
    hopper->launch_time = hopper_time;
    hopper->replaced = "product_hopper_256", hopper->replacement = "planted_hopper_nothing";
    for (int i = 0; i < 2; ++i) open_device(driver, 0, {});
    return trials() == 7 ? "" : note(0);
  });
  test::test("cuda/trial again after a kernel that ended late", []() -> std::string {
    EmulatedHopper hopper;
    hopper->devices = 9;
    const Driver& driver = emu::driver();
    const emu::DriverCounts before = emu::driver_counts;
    const auto trials = [&] { return emu::driver_counts.contexts_created - before.contexts_created; };
    hopper->never_ready = true;
    std::shared_ptr<CudaBackend> first = open_device(driver, 8, {});
    const int64_t held = emu::driver_counts.contexts;
    if (takes_hopper(first->device()) || trials() != 1) return "it has ended";
    if (open_device(driver, 8, {}) != first || trials() != 1) return "tried again while the kernel runs";
    hopper->never_ready = false;
    static int64_t beside;
    hopper->separate_context = [] { beside = emu::driver_counts.contexts; };
    std::shared_ptr<CudaBackend> second = open_device(driver, 8, {});
    if (trials() != 2 || !takes_hopper(second->device())) return list_devices(driver)[8].hopper;
    if (beside != held - 1) return "two trials at once";
    first = second = nullptr;
    return left_behind(before);
  });
  test::test("cuda/trial takes the process's other contexts with it", []() -> std::string {
    EmulatedHopper hopper;
    hopper->devices = 2, hopper->fail_launch = 0, hopper->lost_together = true;
    const emu::DriverCounts before = emu::driver_counts;
    std::string why = "no error";
    try {
      open_device(emu::driver(), 1, {});
    } catch (const Error& error) {
      why = error.code() == ErrorCode::device_lost ? error.what() : "another code";
    }
    emu::recover();
    if (why.find("cannot use the GPU any more (off: ") == std::string::npos) return why;
    return left_behind(before);
  });
}

// --- on hardware as well ---

/// With the driver alone: the wait of a barrier that never completes ends the kernel, with an error.
std::string hang() {
  const Driver& driver = backend().device().driver();
  const std::vector<char> image = test_image();
  DeviceNumber number = 0;
  check(driver, driver.device_get(&number, 0), "device");
  ContextHandle context;
  check(driver, driver.context_create(&context, 0, number), "context");
  ModuleHandle module;
  FunctionHandle function;
  StreamHandle stream;
  EventHandle event;
  check(driver, driver.module_load(&module, image.data()), "module");
  check(driver, driver.module_function(&function, module, "planted_hopper_hang"), "function");
  check(driver, driver.stream_create(&stream, kNonBlocking), "stream");
  check(driver, driver.event_create(&event, 0), "event");
  HopperProductArgs arguments{};
  void* parameters[] = {&arguments};
  check(driver, driver.launch(function, 1, 1, 1, kHopperThreads, 1, 1, 64, stream, parameters, nullptr),
        "launch");
  driver.event_record(event, stream);
  Result result = kNotReady;
  const auto begin = std::chrono::steady_clock::now();
  while (result == kNotReady && std::chrono::steady_clock::now() - begin < std::chrono::seconds(5)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    result = driver.event_query(event);
  }
  if (result == kNotReady) return "it did not end";
  driver.context_destroy(context);
  if (result == kSuccess) return "no error";
  return backend().device().lost() ? "the shared context is lost, too" : "";
}

const Register suite([] {
  fitting();
  if (backend().device().has_warpgroup_products()) {
    const bool quiet = emu::quiet;
    emu::quiet = true;
    test::test("cuda/trial a wait that never ends is ended", hang);
    emu::quiet = quiet;
    emu::statistics.faults = 0;
    if (on_hardware())
      test::test("cuda/trial on this GPU", []() -> std::string {
        const Device& device = backend().device();
        const HopperVerdict verdict = try_hopper(device.driver(), 0, image(), kBuiltInTimes);
        return verdict.on || verdict.note.find("slower") != std::string::npos ? "" : verdict.note;
      });
  }
  // Watching every access takes long, and does not follow Hopper's barriers.
  if (on_hardware() || emu::checking) return;
  verdicts();
  if (!small()) devices();
});

}  // namespace
}  // namespace nd::cuda_test
