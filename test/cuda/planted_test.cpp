// Faults that are planted in kernels must be found: by what the emulator reports, or by wrong results in some
// order of threads. The emulator alone is on trial here.
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>

#include "changed_driver.h"
#include "driver.h"
#include "emulator.h"
#include "test_kernels.h"

namespace nd::cuda_test {
namespace {

using namespace nd::cuda;

constexpr uint32_t kOrders = 4;

/// What a kernel did in all orders.
struct Outcome {
  int64_t faults = 0;
  int wrong = 0;      // orders with a wrong result
  bool died = false;  // the process ended at a guard page
  bool found() const { return faults > 0 || wrong > 0 || died; }
};

/// In a process of its own, as guard pages end it. run() says whether the result is right.
template <class Run>
Outcome observe(const Run& run) {
  int pipes[2];
  if (pipe(pipes) != 0) return {};
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    if (!freopen("/dev/null", "w", stdout)) _exit(5);
    Outcome outcome;
    emu::quiet = true;
    emu::statistics.faults = 0;
    for (uint32_t seed = 0; seed < kOrders; ++seed) {
      set_order(seed);
      outcome.wrong += !run();
    }
    outcome.faults = static_cast<int64_t>(emu::statistics.faults);
    _exit(write(pipes[1], &outcome, sizeof outcome) == sizeof outcome ? 0 : 5);
  }
  close(pipes[1]);
  Outcome outcome;
  int status = 0;
  outcome.died = read(pipes[0], &outcome, sizeof outcome) != sizeof outcome;
  close(pipes[0]);
  waitpid(child, &status, 0);
  return outcome;
}

template <class Run>
void expect(const std::string& what, bool fault, const Run& run) {
  const std::string name = "cuda/planted " + what;
  if (!wanted(name)) return;
  const Outcome outcome = observe(run);
  const std::string counts =
      std::to_string(outcome.faults) + " faults, wrong in " + std::to_string(outcome.wrong) + " orders";
  report(name, outcome.found() == fault ? "" : (fault ? "not found" : "found a fault: " + counts));
}

bool run_reduce(const char* kernel) {
  constexpr int64_t kCount = 5000;
  const std::vector<float> values = random_halves("reduce", kCount);
  const Array x = Array::floats(values), sum = Array::floats({0});
  const ReduceArgs args{x.as<float>(), sum.as<float>(), kCount};
  double want = 0;
  for (const float value : values) want += value;
  return launch_test({kernel, {3}, kReduceThreads, kReduceSharedBytes}, &args) &&
         std::fabs(sum.read<float>(1)[0] - want) < 0.02;
}

std::vector<float> product(const std::vector<float>& a, const std::vector<float>& b, int64_t rows,
                           int64_t k) {
  std::vector<float> want;
  for (int64_t i = 0; i < rows * rows; ++i) {
    double sum = 0;
    for (int64_t j = 0; j < k; ++j)
      sum += static_cast<double>(a[static_cast<size_t>(i / rows * k + j)]) *
             b[static_cast<size_t>(i % rows * k + j)];
    want.push_back(static_cast<float>(sum));
  }
  return want;
}

bool run_pipeline(const char* kernel) {
  constexpr int64_t kK = 104;  // the last step is not full
  const std::vector<float> a = random_halves("a", 64 * kK), b = random_halves("b", 64 * kK);
  const Array da = Array::halves(a), db = Array::halves(b), c(64 * 64 * 4);
  const PipelineArgs args{da.as<half>(), db.as<half>(), c.as<float>(), kK};
  return launch_test({kernel, {}, kPipelineThreads, kPipelineSharedBytes}, &args) &&
         worst_error(c.read<float>(64 * 64), product(a, b, 64, kK)) < 1e-5;
}

bool run_wgmma(const char* kernel) {
  constexpr int64_t kK = 512;
  const std::vector<float> a = random_halves("a", 64 * kK), b = random_halves("b", 64 * kK);
  const Array da = Array::halves(a), db = Array::halves(b), c(64 * 64 * 4);
  const WgmmaArgs args{tensor_map(da, 64, kK), tensor_map(db, 64, kK), c.as<float>(), 64, 64, kK};
  return launch_test({kernel, {}, kWgmmaThreads, kWgmmaSharedBytes}, &args) &&
         worst_error(c.read<float>(64 * 64), product(a, b, 64, kK)) < 1e-5;
}

/// In place of step_operations, launched so that it may begin before the previous kernel has ended.
bool run_overlap(const char* kernel) {
  constexpr int64_t kCount = 100;  // not all threads have something to do
  ChangedDriver driver;
  driver->capability = 90;
  driver->replaced = "step_operations", driver->replacement = kernel;
  CudaBackend own(emu::driver(), 0, {});
  Device& device = own.device();
  device.use_overlapping_launches(true);
  const Array x = Array::floats(random_halves("x", kCount)), y(kCount * 4);
  StepArgs args{};
  args.count = kCount, args.operations = 1;
  StepOperation& operation = args.operation[0];
  operation.y = y.as<float>(), operation.kind = StepKind::combine, operation.terms = 1;
  operation.term[0] = {x.as<float>(), 1};
  const Device::Current current(device);
  const Device::Stream stream(device);
  device.launch(stream.handle(), Kernel::step_operations, {1}, args);
  stream.synchronize();
  return true;
}

const Register suite([] {
  if (on_hardware()) return;
  backend();
  const auto reduce = [](const char* kernel) { return [=] { return run_reduce(kernel); }; };
  expect("nothing: reduction", false, reduce("planted_reduce_0"));
  expect("reduction: a barrier of one warp only", true, reduce("planted_reduce_1"));
  expect("reduction: a barrier that some threads do not reach", true, reduce("planted_reduce_2"));
  expect("reduction: reads of shared memory that was never written", true, reduce("planted_reduce_3"));
  // Without the checker, blocks add up one after the other by chance.
  if (emu::checking) expect("reduction: a plain += from several blocks", true, reduce("planted_reduce_4"));
  const auto pipeline = [](const char* kernel) { return [=] { return run_pipeline(kernel); }; };
  expect("nothing: pipeline", false, pipeline("planted_pipeline_0"));
  expect("pipeline: no barrier before a buffer is used again", true, pipeline("planted_pipeline_1"));
  expect("pipeline: a wait for one group too few", true, pipeline("planted_pipeline_2"));
  expect("pipeline: reads past the end", true, pipeline("planted_pipeline_3"));
  expect("pipeline: two fragment registers swapped", true, pipeline("planted_pipeline_4"));
  expect("pipeline: a column past the right edge", true, pipeline("planted_pipeline_5"));
  const auto overlap = [](const char* kernel) { return [=] { return run_overlap(kernel); }; };
  expect("nothing: overlap", false, overlap("step_operations"));
  expect("overlap: no wait for the previous kernel", true, overlap("planted_overlap_never"));
  expect("overlap: threads that end before the wait", true, overlap("planted_overlap_some"));
  if (emu::checking) expect("overlap: a read before the wait", true, overlap("planted_overlap_late"));
  const auto wgmma = [](const char* kernel) { return [=] { return run_wgmma(kernel); }; };
  if (emu::checking) return;  // which does not follow mbarriers
  expect("nothing: wgmma", false, wgmma("test_wgmma"));
  expect("wgmma: a stage that is filled again before it is free", true, wgmma("planted_wgmma_1"));
  expect("wgmma: the bytes of one copy where there are two", true, wgmma("planted_wgmma_2"));
  expect("wgmma: a descriptor half a step off", true, wgmma("planted_wgmma_3"));
  expect("wgmma: a stage given back while a product reads it", true, wgmma("planted_wgmma_4"));
});

}  // namespace
}  // namespace nd::cuda_test
