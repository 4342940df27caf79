#include "cuda/trial/overlap_trial.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <vector>

#include "cuda/context.h"
#include "cuda/layers/product_plan.h"
#include "cuda/recorder.h"
#include "cuda/trial/kernel_timer.h"
#include "cuda/trial/note.h"

namespace nd::cuda {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kLinks = 32, kRounds = 5;
constexpr int kTensors = 3;     // that a link writes, and the two that it reads
constexpr int kCopyEvery = 8;   // links
constexpr int kBlocksEach = 2;  // for each multiprocessor

/// A graph that launches the chain.
class Chain {
 public:
  Chain(const Device& device, StreamHandle stream, const Buffer& tensors, int64_t elements)
      : driver_(device.driver()) {
    check(driver_, driver_.capture_begin(stream, kCaptureThread), "Could not record");
    try {
      for (int link = 0; link < kLinks; ++link) launch_link(device, stream, tensors, elements, link);
    } catch (...) {
      discard_capture(driver_, stream);
      throw;
    }
    executable_ = end_capture(device, stream);
  }
  ~Chain() { driver_.executable_destroy(executable_); }
  Chain(const Chain&) = delete;
  Chain& operator=(const Chain&) = delete;

  void launch(StreamHandle stream) const {
    check(driver_, driver_.graph_launch(executable_, stream), "Could not start a graph");
  }

 private:
  /// Writes a sum of the last two tensors to a third one; they take turns. Each block reads what another one
  /// has written. Some links read a copy of the last tensor, as a kernel must not overlap that either.
  static void launch_link(const Device& device, StreamHandle stream, const Buffer& tensors, int64_t elements,
                          int link) {
    const size_t bytes = static_cast<size_t>(elements + kMoveThreads) * sizeof(float);
    const auto tensor = [&](int number) {
      return tensors.address() + static_cast<size_t>(number % kTensors) * bytes;
    };
    Address before = tensor(link + 1);
    if (link % kCopyEvery == kCopyEvery - 1) {
      const Address copied = tensors.address() + kTensors * bytes;
      device.copy(copied, before, bytes, stream);
      before = copied;
    }
    StepArgs args{};
    args.count = elements;
    args.operations = 1;
    args.operation[0].y = pointer<float>(tensor(link + 2));
    args.operation[0].kind = StepKind::combine;
    args.operation[0].terms = 2;
    args.operation[0].term[0] = {pointer<float>(tensor(link)), 0.75};
    args.operation[0].term[1] = {pointer<float>(before) + kMoveThreads, -0.625};
    device.launch(stream, Kernel::step_operations, {pieces_of(elements, kMoveThreads)}, args);
  }

  const Driver& driver_;
  GraphExecutableHandle executable_ = nullptr;
};

/// Restores how a device launches.
class Launches {
 public:
  explicit Launches(Device& device) : device_(device), before_(device.overlapping_launches()) {}
  ~Launches() { device_.use_overlapping_launches(before_); }
  Launches(const Launches&) = delete;
  Launches& operator=(const Launches&) = delete;

 private:
  Device& device_;
  const bool before_;
};

void attempt(Device& device, const CancelToken* cancel, OverlapVerdict& verdict) {
  const Device::Current current(device);
  const Launches launches(device);
  const int64_t elements = int64_t{kBlocksEach} * device.multiprocessors() * kMoveThreads;
  std::vector<float> start(static_cast<size_t>((kTensors + 1) * (elements + kMoveThreads)));
  for (size_t i = 0; i < start.size(); ++i) start[i] = static_cast<float>(i % 1021) * 0.5f - 255;
  const Buffer tensors(device, start.size() * sizeof(float));
  const KernelTimer timer(device);
  device.use_overlapping_launches(false);
  const Chain plain(device, timer.stream(), tensors, elements);
  device.use_overlapping_launches(true);
  const Chain overlapping(device, timer.stream(), tensors, elements);

  const auto result = [&](const Chain& chain) {
    if (cancel) cancel->check();
    std::vector<float> values(start.size());
    device.upload(tensors.address(), start.data(), start.size() * sizeof(float), timer.stream());
    chain.launch(timer.stream());
    device.download(values.data(), tensors.address(), values.size() * sizeof(float), timer.stream());
    return values;
  };
  const std::vector<float> expected = result(plain);
  const auto time = [&](const Chain& chain, double& least) {
    if (cancel) cancel->check();
    const double each =
        timer.measure([&](StreamHandle stream) { chain.launch(stream); }, 1, 1).front() / kLinks;
    least = least > 0 ? std::min(least, each) : each;
  };
  for (int round = 0; round < kRounds; ++round)
    if (std::memcmp(result(overlapping).data(), expected.data(), expected.size() * sizeof(float)) != 0) {
      verdict.note = "off: kernels that overlap compute something else";
      return;
    }
  for (int round = 0; round < kRounds; ++round)
    time(plain, verdict.plain), time(overlapping, verdict.overlapping);
  verdict.on = verdict.overlapping < (1 - kMinGain) * verdict.plain;
  if (!verdict.on) {
    verdict.note = "off: no faster";
    return;
  }
  char text[80];
  std::snprintf(text, sizeof text, "on: small kernels take %.0f %% of their time",
                100 * verdict.overlapping / verdict.plain);
  verdict.note = text;
}

}  // namespace

OverlapVerdict try_overlap(Device& device, const CancelToken* cancel) {
  const Clock::time_point begin = Clock::now();
  OverlapVerdict verdict;
  try {
    attempt(device, cancel, verdict);
  } catch (const Error& error) {
    if (device.lost()) throw;
    // Too little memory, or a driver that does not record such launches.
    verdict.note = "off: " + first_sentence(error.what());
    verdict.may_pass = error.code() == ErrorCode::out_of_memory;
  }
  verdict.milliseconds = std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
  return verdict;
}

}  // namespace nd::cuda
