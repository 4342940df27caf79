#include "cuda/trial/hopper_trial.h"

#include <algorithm>
#include <cstdio>
#include <optional>
#include <thread>
#include <utility>

#include "cuda/trial/hopper_cases.h"
#include "cuda/trial/note.h"

namespace nd::cuda {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::microseconds kPoll{50};
constexpr int kRepetitions = 3, kAtOnce = 5;  // launches, as one alone takes longer than some kernels

struct Failed {
  std::string why;
  bool may_pass = false;
};

std::string text(const char* format, double number) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, format, number);
  return buffer;
}

std::string name_of(Kernel kernel) {
  return kKernels[static_cast<int>(kernel)].name;
}

class Trial final : public UnfinishedTrial {
 public:
  Trial(const Driver& driver, int number, const std::vector<char>& image, const TileTimes& tiles,
        const CancelToken* cancel, std::chrono::milliseconds limit)
      : device_(driver, number, image, ContextKind::separate),
        current_(std::in_place, device_),
        driver_(driver),
        cancel_(cancel),
        limit_(limit),
        deadline_(Clock::now() + limit) {
    device_.use_tile_times(tiles);
    // With NODE_DIFFUSION_CUDA_WGMMA, Hopper's kernels would be compared with themselves.
    device_.use_warpgroup_products(WarpgroupProducts::none);
    // Closing the context destroys these.
    require(driver.stream_create(&stream_, kNonBlocking));
    for (EventHandle* event : {&begin_, &end_}) require(driver.event_create(event, 0));
    cases_.emplace(device_, stream_);
  }

  /// Leaves the calling thread, for another one to ask has_ended().
  void put_aside() { current_.reset(); }
  bool unfinished() const { return unfinished_; }
  bool has_ended() override {
    const Device::Current current(device_);
    if (driver_.event_query(end_) == kNotReady) return false;
    device_.abandon(false);
    return true;
  }

  /// All kernels, with all that their arguments can be: padding, parts of boxes and of steps, splits,
  /// moments.
  void compare() {
    HopperCases& cases = *cases_;
    for (int tile = 0; tile < kHopperTileCount; ++tile) {
      compare(cases.product({2, 7, 9, 72, 136, 3, false, false, true}, tile, 1));
      compare(cases.product({2, 7, 9, 72, 136, 3, false, false, true}, tile, 3));
      compare(cases.product({1, 1, 200, 136, 272, 1, false, true, false}, tile, 1));
      compare(cases.product({2, 4, 3, 64, 40, 1, true, false, false}, tile, 1));
      compare(cases.product({1, 9, 14, 72, 136, 3, false, false, true, true}, tile, 1));
    }
    for (const int64_t dim : {40, 64, 72, 128, 160}) compare(cases.attention({1, 130, 2, dim}));
  }

  HopperMeasurements measure() {
    HopperCases& cases = *cases_;
    HopperMeasurements result;
    // Convolutions of boxes of 16 × 8 pixels, one row of boxes for each multiprocessor.
    constexpr int64_t kAlone = kHopperTiles[0].columns, kTaps = 9;
    const int64_t height = int64_t{kHopperRows} / 16 * std::min(device_.multiprocessors(), 256);
    const auto shape = [&](int64_t steps, int64_t columns) {
      return TrialProduct{1, height, 16, steps / kTaps * kHopperK, columns, 3};
    };
    for (int tile = 0; tile < kHopperTileCount; ++tile) {
      const int64_t columns = trial_columns(tile);
      const HopperCase long_full = cases.product(shape(kLongSteps, columns), tile, 1),
                       short_full = cases.product(shape(kShortSteps, columns), tile, 1),
                       long_alone = cases.product(shape(kLongSteps, kAlone), tile, 1);
      TileMeasurement& hopper = result.tiles[tile];
      hopper = {time(long_full.kernel, long_full.hopper), time(long_full.kernel, short_full.hopper),
                time(long_full.kernel, long_alone.hopper)};
      if (tile > 0) continue;
      result.everywhere = {time(long_full.kernel, long_full.everywhere),
                           time(long_full.kernel, short_full.everywhere),
                           time(long_full.kernel, long_alone.everywhere)};
      result.modelled_long = long_full.modelled, result.modelled_short = short_full.modelled;
    }
    for (int i = 0; i < kHopperAttentionCount; ++i)
      for (int length = 0; length < kTriedLengths; ++length) {
        const HopperCase one = cases.attention({2, kTriedTokens[length], 8, kHopperAttentionShapes[i].dim});
        result.attention[i][length] = {time(one.kernel, one.everywhere), time(one.kernel, one.hopper)};
      }
    return result;
  }

 private:
  void require(Result result) {
    if (result != kSuccess) throw Failed{error_text(driver_, result), result == kOutOfMemory};
  }

  void require(Result result, Kernel kernel) {
    if (result != kSuccess)
      throw Failed{name_of(kernel) + " failed: " + error_text(driver_, result), result == kOutOfMemory};
  }

  void compare(const HopperCase& one) {
    cases_->clear(one);
    one.everywhere(stream_);
    one.hopper(stream_);
    require(driver_.event_record(end_, stream_), one.kernel);
    wait(one.kernel);
    const double difference = cases_->difference(one);
    if (!(difference <= one.tolerance))
      throw Failed{name_of(one.kernel) + " is off by " + text("%.2g", difference) + " of the largest value"};
  }

  /// Microseconds of one launch, the least of several measurements.
  double time(Kernel kernel, const std::function<void(StreamHandle)>& launch) {
    double best = 0;
    launch(stream_);
    for (int i = 0; i < kRepetitions; ++i) {
      require(driver_.event_record(begin_, stream_), kernel);
      for (int j = 0; j < kAtOnce; ++j) launch(stream_);
      require(driver_.event_record(end_, stream_), kernel);
      wait(kernel);
      float milliseconds = 0;
      require(driver_.event_elapsed(&milliseconds, begin_, end_), kernel);
      const double each = static_cast<double>(milliseconds) * 1e3 / kAtOnce;
      best = i == 0 ? each : std::min(best, each);
    }
    return best;
  }

  /// For the last event, never in the driver, which might not come back. A cancellation takes effect once the
  /// kernels have ended: closing the context would wait for them as well.
  void wait(Kernel kernel) {
    for (;;) {
      const Result result = driver_.event_query(end_);
      if (result == kSuccess) break;
      if (result != kNotReady) require(result, kernel);
      if (Clock::now() > deadline_) {
        device_.abandon(true);
        unfinished_ = true;
        throw Failed{name_of(kernel) + " did not end within " +
                         text("%g s", std::chrono::duration<double>(limit_).count()),
                     true};
      }
      std::this_thread::sleep_for(kPoll);
    }
    if (cancel_) cancel_->check();
  }

  Device device_;
  std::optional<Device::Current> current_;
  const Driver& driver_;
  const CancelToken* cancel_;
  const std::chrono::milliseconds limit_;
  const Clock::time_point deadline_;
  StreamHandle stream_ = nullptr;
  EventHandle begin_ = nullptr, end_ = nullptr;
  bool unfinished_ = false;
  std::optional<HopperCases> cases_;
};

std::string gain_text(const char* what, double gain) {
  return std::string(what) + (gain > 0 ? text(" %.1f times as fast", gain) : " not faster, and off");
}

/// Off unless everything goes well.
void attempt(Trial& trial, HopperVerdict& verdict) {
  trial.compare();
  verdict.measurements = trial.measure();
  verdict.times = fit_times(verdict.measurements);
  const double products = product_gain(verdict.measurements, verdict.times),
               attention = attention_gain(verdict.measurements, verdict.times);
  verdict.on = products > 0 || attention > 0;
  verdict.note = verdict.on
                     ? "on: " + gain_text("products", products) + ", " + gain_text("attention", attention)
                     : "off: slower than the kernels for all GPUs";
  verdict.may_pass = !verdict.on;  // where others use the GPU as well, times say little
}

}  // namespace

HopperVerdict try_hopper(const Driver& driver, int number, const std::vector<char>& image,
                         const TileTimes& tiles, const CancelToken* cancel, std::chrono::milliseconds limit) {
  const Clock::time_point begin = Clock::now();
  HopperVerdict verdict;
  std::shared_ptr<Trial> trial;
  try {
    trial = std::make_shared<Trial>(driver, number, image, tiles, cancel, limit);
    attempt(*trial, verdict);
  } catch (const Failed& failed) {
    verdict.note = "off: " + failed.why;
    verdict.may_pass = failed.may_pass;
  } catch (const Error& error) {
    verdict.note = "off: " + first_sentence(error.what());
    verdict.may_pass = error.code() == ErrorCode::out_of_memory;
  }
  if (trial && trial->unfinished()) {
    trial->put_aside();
    verdict.unfinished = trial;
  }
  verdict.milliseconds = std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
  return verdict;
}

void apply(const HopperVerdict& verdict, Device& device) {
  device.use_hopper_times(verdict.times);
  device.use_warpgroup_products(verdict.on ? WarpgroupProducts::faster : WarpgroupProducts::none);
}

}  // namespace nd::cuda
