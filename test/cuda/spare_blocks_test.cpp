// Working memory that is kept from one picture to the next: which blocks are, that it is there for whoever
// needs it, and that forwards are repeated in it as graphs, with the same bits as by themselves.
#include <algorithm>
#include <functional>

#include "changed_driver.h"
#include "core/error.h"
#include "cuda/spare_blocks.h"
#include "fixture_models.h"
#include "left_behind.h"
#include "nn/resident.h"
#include "nn/workspace.h"
#include "support.h"
#include "unet/unet.h"

namespace nd::cuda_test {
namespace {

using cuda::CudaBackend;
using cuda::SpareBlocks;

std::string expect(bool holds, const char* why) {
  return holds ? "" : why;
}

bool returns(const std::vector<Address>& dropped, const std::vector<uintptr_t>& addresses) {
  return std::equal(dropped.begin(), dropped.end(), addresses.begin(), addresses.end(),
                    [](Address block, uintptr_t address) { return block.value == address; });
}

void which_blocks() {
  test::test("cuda/spare blocks go by their exact size, the lowest first", [] {
    SpareBlocks spare;
    spare.limit(1000);
    spare.put({300}, 10);
    spare.put({100}, 10);
    spare.put({200}, 20);
    if (spare.bytes() != 40) return std::string("other bytes");
    if (spare.take(15) || spare.take(9) || spare.take(21)) return std::string("a block of another size");
    if (spare.take(10).value != 100 || spare.take(10).value != 300) return std::string("another order");
    if (spare.take(10)) return std::string("a block twice");
    return expect(spare.take(20).value == 200 && spare.bytes() == 0, "a block is missing");
  });
  test::test("cuda/spare blocks within their limit", [] {
    SpareBlocks spare;
    if (!returns(spare.put({100}, 1), {100})) return std::string("kept without a limit");
    spare.limit(100);
    if (!returns(spare.put({100}, 101), {100})) return std::string("one above the limit");
    if (!returns(spare.put({100}, 60), {}) || !returns(spare.put({200}, 40), {}))
      return std::string("not up to the limit");
    if (!returns(spare.put({300}, 50), {100})) return std::string("not the largest went");
    if (!returns(spare.put({400}, 70), {400})) return std::string("not the new one, which is the largest");
    if (spare.bytes() != 90) return std::string("other bytes");
    return expect(spare.take_any() && spare.take_any() && !spare.take_any() && spare.bytes() == 0, "not all");
  });
  test::test("cuda/spare blocks that nobody wants go", [] {
    SpareBlocks spare;
    spare.limit(1000);
    spare.put({100}, 10);
    spare.put({200}, 20);
    for (uint64_t i = 0; i + 1 < SpareBlocks::kMaxAge; ++i) {
      if (!returns(spare.put({300}, 30), {})) return std::string("too early");
      spare.take(30);
    }
    if (!returns(spare.put({300}, 30), {100})) return std::string("the first is not too old");
    return expect(returns(spare.put({400}, 30), {200}), "the second is not too old");
  });
}

/// One run of three steps: of which images, and what else there is.
struct Run {
  int64_t rows, h, w;
  bool resident, deep;
  const char* prompt;
};

/// The latents of each step.
std::vector<float> latents_of(const Run& run, const std::string& step) {
  return noise(std::string(run.prompt) + step, 4 * run.h * run.w);
}

/// What a UNet predicts in the steps of a run. Rows repeat the same latents. `resident`: null on the host.
std::vector<std::vector<float>> steps_with(Unet& unet, ResidentTensors* resident, const Run& run,
                                           bool alone = false) {
  std::vector<std::vector<float>> result;
  DeepFeatures deep;
  for (int step = 0; step < 3; ++step) {
    if (alone) unet.trim();
    const std::vector<float> latents = latents_of(run, std::to_string(step)),
                             context = noise(run.prompt, run.rows * 9 * 20),
                             timesteps(static_cast<size_t>(run.rows),
                                       900.0f - 100.0f * static_cast<float>(step));
    std::vector<float> batch;
    for (int64_t i = 0; i < run.rows; ++i) batch.insert(batch.end(), latents.begin(), latents.end());
    std::vector<float> out(batch.size());
    UnetInput input{batch.data(), run.rows, run.h, run.w, {timesteps.data(), context.data(), 9}};
    UnetOptions options;
    if (run.deep) options.deep = &deep, options.depth = 2, options.reuse = step != 0;
    if (resident) {
      ResidentOperation copy;
      copy.out = ResidentTensors::kInput;
      copy.terms = {{1, 4}};
      resident->stage({{{4, latents}}, {copy}, {}});
      input.resident = resident;
    }
    unet.predict(input, resident ? nullptr : out.data(), nullptr, options);
    std::vector<int64_t> predictions;
    for (int64_t i = 0; i < run.rows; ++i) predictions.push_back(ResidentTensors::kPrediction + i);
    if (resident) resident->read({}, predictions, out.data(), nullptr);
    result.push_back(out);
  }
  return result;
}

std::shared_ptr<ResidentTensors> resident_of(CudaBackend& on, const Run& run) {
  return run.resident ? on.resident(1, 4 * run.h * run.w, 0) : nullptr;
}

/// The same of a whole run, which gives its memory back.
std::vector<std::vector<float>> steps_of(Unet& unet, CudaBackend& on, const Run& run) {
  const std::shared_ptr<ResidentTensors> resident = resident_of(on, run);
  std::vector<std::vector<float>> result = steps_with(unet, resident.get(), run);
  unet.trim();
  return result;
}

/// The same without a graph, in memory that is not kept.
std::vector<std::vector<float>> steps_alone(Unet& unet, const Run& run) {
  return steps_with(unet, nullptr, run, true);
}

constexpr Run kRun{2, 4, 6, true, false, "a"}, kOtherPrompt{2, 4, 6, true, false, "b"},
    kOnHost{2, 4, 6, false, false, "c"}, kUnguided{1, 4, 6, true, false, "a"},
    kLarge{2, 8, 8, true, false, "d"}, kDeep{2, 4, 6, true, true, "e"}, kDeepToo{2, 4, 6, true, true, "f"};

bool same(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const auto& x, const auto& y) { return cuda_test::same(x, y); });
}

void runs() {
  test::test("cuda/spare runs give what they give by themselves", [] {
    const std::unique_ptr<CudaBackend> keeping = backend_with_spare_blocks();
    const std::unique_ptr<Unet> unet = load_fixture_unet(*keeping), other = load_fixture_unet(*keeping),
                                alone = load_fixture_unet(backend());
    const Run list[] = {kRun,  kOtherPrompt, kOtherPrompt, kOnHost,   kRun,         kUnguided,
                        kRun,  kLarge,       kRun,         kDeep,     kDeepToo,     kRun,
                        kDeep, kOnHost,      kLarge,       kUnguided, kOtherPrompt, kDeepToo};
    std::shared_ptr<ResidentTensors> others;
    for (size_t i = 0; i < sizeof list / sizeof list[0]; ++i) {
      const std::string which = "run " + std::to_string(i);
      if (!same(steps_of(*unet, *keeping, list[i]), steps_alone(*alone, list[i]))) return which + " differs";
      if (i % 5 == 3) keeping->release_spare_memory();
      // Another UNet and other tensors take the same memory, and give it back.
      if (i % 4 == 0) other->trim();
      if (i % 4 == 0 || i % 3 == 0) others = nullptr;
      if (i % 4 < 2) steps_with(*other, nullptr, list[i]);
      if (i % 3 == 1 && list[i].resident) {
        others = resident_of(*keeping, list[i]);
        others->stage({});
      }
    }
    return std::string();
  });
  test::test("cuda/spare two UNets whose runs take turns", [] {
    const std::unique_ptr<CudaBackend> keeping = backend_with_spare_blocks();
    const std::unique_ptr<Unet> one = load_fixture_unet(*keeping), two = load_fixture_unet(*keeping),
                                alone = load_fixture_unet(backend());
    const auto expected = steps_alone(*alone, kRun);
    for (int i = 0; i < 3; ++i)
      for (Unet* unet : {one.get(), two.get()})
        if (!same(steps_of(*unet, *keeping, kRun), expected)) return "round " + std::to_string(i);
    return std::string();
  });
  if (on_hardware()) return;
  test::test("cuda/spare a run like the one before records and allocates nothing", [] {
    const std::unique_ptr<CudaBackend> keeping = backend_with_spare_blocks();
    const std::unique_ptr<Unet> unet = load_fixture_unet(*keeping);
    // The first computes the shifts of its timesteps in working memory, the others have them.
    for (const Run& run : {kRun, kOtherPrompt}) steps_of(*unet, *keeping, run);
    const emu::DriverCounts before = emu::driver_counts;
    for (const Run& run : {kRun, kOtherPrompt}) steps_of(*unet, *keeping, run);
    const emu::DriverCounts after = emu::driver_counts;
    if (after.graph_launches != before.graph_launches + 6) return std::string("steps that are no graphs");
    if (after.executables != before.executables) return std::string("another graph");
    return expect(after.allocations == before.allocations, "allocations");
  });
}

/// Graphs that a run records after one like it, and something between the two.
int64_t recorded(const std::function<void(CudaBackend&, Unet& other, ResidentTensors& tensors)>& between) {
  const std::unique_ptr<CudaBackend> keeping = backend_with_spare_blocks();
  const std::unique_ptr<Unet> unet = load_fixture_unet(*keeping), other = load_fixture_unet(*keeping);
  const std::shared_ptr<ResidentTensors> tensors = resident_of(*keeping, kRun);
  for (int i = 0; i < 2; ++i) steps_of(*unet, *keeping, kRun);
  between(*keeping, *other, *tensors);
  const int64_t before = emu::driver_counts.executables;
  steps_of(*unet, *keeping, kRun);
  return emu::driver_counts.executables - before;
}

void places() {
  test::test("cuda/spare a run whose memory another one has taken records anew", [] {
    const int64_t of_unet = recorded(
                      [](CudaBackend&, Unet&other, ResidentTensors&) { steps_with(other, nullptr, kRun); }),
                  of_tensors = recorded([](CudaBackend&, Unet&, ResidentTensors&held) { held.stage({}); });
    if (of_unet != 1) return std::string("another UNet has it");
    return expect(of_tensors == 1, "other tensors have it");
  });
  test::test("cuda/spare a graph belongs to one block", [] {
    const std::unique_ptr<CudaBackend> keeping = backend_with_spare_blocks();
    Workspace workspace(*keeping);
    const std::vector<float> x = noise("x", 3 * 4 * 5);
    std::vector<float> y(x.size());
    const auto forward = [&](ForwardContext& ctx) {
      keeping->to_planar(ctx, keeping->from_planar(ctx, x.data(), 1, 3, 4, 5), y.data());
    };
    const auto records = [&] {
      const int64_t before = emu::driver_counts.executables;
      y.assign(y.size(), 0);
      workspace.run_repeated([] { return std::vector<uint64_t>{1}; }, nullptr, nullptr, forward);
      workspace.trim();
      if (!(worst_error(y, x) < 1e-3)) return int64_t{-1};
      return emu::driver_counts.executables - before;
    };
    if (records() != 1) return std::string("at first");
    if (records() != 0) return std::string("in the same block");
    const size_t bytes = Workspace::measure(*keeping, forward);
    const Address held = keeping->memory().allocate(bytes);
    const int64_t elsewhere = records();
    keeping->memory().release(held, bytes);
    return expect(elsewhere == 1, "in another block");
  });
  test::test("cuda/spare a run between does not matter", [] {
    for (const Run& run : {kRun, kLarge})
      if (recorded([&](CudaBackend& on, Unet& other, ResidentTensors&) { steps_of(other, on, run); }) != 0)
        return "of " + std::to_string(run.h) + "x" + std::to_string(run.w);
    return std::string();
  });
}

/// The first step of a run with deep features allocates them, and is known by their place only then.
void deep() {
  test::test("cuda/spare graphs of deep features are replaced, not piled up", [] {
    const std::unique_ptr<CudaBackend> keeping = backend_with_spare_blocks();
    const std::unique_ptr<Unet> unet = load_fixture_unet(*keeping);
    const auto recorded_by = [&](const Run& run) {
      const int64_t before = emu::driver_counts.executables;
      steps_of(*unet, *keeping, run);
      return emu::driver_counts.executables - before;
    };
    for (int i = 0; i < 2; ++i) recorded_by(kDeep), recorded_by(kRun);
    const int64_t graphs = emu::driver_counts.graphs;
    for (int i = 0; i < 4; ++i) {
      if (recorded_by(kDeep) > 1) return std::string("later steps are recorded again");
      if (recorded_by(kRun) != 0) return std::string("graphs of other runs are forgotten");
    }
    return expect(emu::driver_counts.graphs == graphs, "more graphs");
  });
}

void memory() {
  test::test("cuda/spare blocks yield to the making of a graph", [] {
    const std::unique_ptr<CudaBackend> keeping = backend_with_spare_blocks();
    const std::unique_ptr<Unet> unet = load_fixture_unet(*keeping);
    const auto expected = steps_of(*unet, *keeping, kRun);
    {
      ChangedDriver options;
      options->fail_graphs = 1;
      const int64_t before = emu::driver_counts.bytes;
      steps_of(*unet, *keeping, kUnguided);
      if (emu::driver_counts.bytes >= before) return std::string("none were released");
    }
    ChangedDriver options;
    options->fail_graphs = 2;
    std::string why = "no error";
    try {
      steps_of(*unet, *keeping, kLarge);
    } catch (const Error& error) {
      why = expect(error.code() == ErrorCode::out_of_memory, error.what());
    }
    if (!why.empty()) return why;
    unet->trim();
    return expect(same(steps_of(*unet, *keeping, kRun), expected), "the next run differs");
  });
  test::test("cuda/spare blocks count as free, and go with a model", [] {
    const std::unique_ptr<CudaBackend> keeping = backend_with_spare_blocks();
    const std::unique_ptr<Unet> unet = load_fixture_unet(*keeping);
    const emu::DriverCounts before = emu::driver_counts;
    const size_t free = keeping->device().memory_info().free;
    steps_of(*unet, *keeping, kRun);
    if (emu::driver_counts.bytes == before.bytes) return std::string("nothing is kept");
    if (keeping->device().memory_info().free != free) return std::string("they do not count as free");
    keeping->release_spare_memory();
    return expect(emu::driver_counts.bytes == before.bytes, "some are left");
  });
  test::test("cuda/spare blocks yield to what needs memory", [] {
    const std::unique_ptr<CudaBackend> keeping = backend_with_spare_blocks();
    const std::unique_ptr<Unet> unet = load_fixture_unet(*keeping);
    const auto expected = steps_of(*unet, *keeping, kRun);
    ChangedDriver options;
    // What is free is all spare.
    options->memory = static_cast<size_t>(emu::driver_counts.bytes);
    const size_t free = keeping->device().memory_info().free;
    const Address all = keeping->memory().allocate(free);
    std::string why = "no error";
    try {
      steps_of(*unet, *keeping, kRun);
    } catch (const Error& error) {
      why = expect(error.code() == ErrorCode::out_of_memory, error.what());
    }
    keeping->memory().release(all, free);
    if (!why.empty()) return why;
    return expect(same(steps_of(*unet, *keeping, kRun), expected), "the next run differs");
  });
  test::test("cuda/spare nothing is left behind", [] {
    const emu::DriverCounts before = emu::driver_counts;
    {
      const std::unique_ptr<CudaBackend> keeping = backend_with_spare_blocks();
      const std::unique_ptr<Unet> unet = load_fixture_unet(*keeping);
      steps_of(*unet, *keeping, kRun);
      steps_of(*unet, *keeping, kDeep);
    }
    return left_behind(before);
  });
}

const Register suite([] {
  which_blocks();
  if (checks_kernels_alone()) return;
  runs();
  if (on_hardware()) return;
  places();
  deep();
  memory();
});

}  // namespace
}  // namespace nd::cuda_test
