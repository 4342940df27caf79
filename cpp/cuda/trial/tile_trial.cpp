#include "cuda/trial/tile_trial.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "cuda/context.h"
#include "cuda/layers/product_plan.h"
#include "cuda/trial/kernel_timer.h"

namespace nd::cuda {
namespace {

using Clock = std::chrono::steady_clock;

/// All cases are measured in turns, for as long as a round is faster than the one before: a GPU that was idle
/// raises its clock meanwhile.
constexpr int kMinRounds = 3, kMaxRounds = 10;
constexpr double kFaster = 0.98;
/// A GPU that takes so many times as long for a first block as the model has it is busy with something else.
constexpr double kBusy = 30;
constexpr int kSmallest = 2;  // of kTiles
constexpr int kMinCapabilityOfInt8 = 80;

struct TileCase {
  bool int8 = false;
  int tile = 0;
  int64_t blocks = 1, steps = kLongSteps;
};

/// A linear layer of almost so many blocks, as a square of them reads the fewest numbers.
ProductArgs arguments(const TileCase& one) {
  const ProductTile& tile = one.int8 ? kInt8Tiles[one.tile] : product_tile(one.tile);
  const auto rows = static_cast<int64_t>(std::sqrt(static_cast<double>(one.blocks)));
  ProductArgs args{};
  args.m = args.grid_w = args.grid_pixels = args.w = args.out_w = narrow(rows * tile.m);
  args.o = args.y_columns = narrow(one.blocks / rows * tile.n);
  args.c = narrow(one.steps * (one.int8 ? kInt8K : kProductK));
  args.chunks = args.weights_chunks = args.c / 8;
  args.h = args.stride = args.kernel_w = args.out_h = args.out_step = args.parities = 1;
  args.alpha = 1;
  return args;
}

size_t input_bytes(const TileCase& one, const ProductArgs& args) {
  return static_cast<size_t>(std::max(args.m, args.o)) * static_cast<size_t>(args.c) * (one.int8 ? 1 : 2);
}

size_t output_bytes(const ProductArgs& args) {
  return static_cast<size_t>(args.m) * static_cast<size_t>(args.o) * 2;
}

/// Numbers that are both x and weights: what is computed does not matter. They are as different as those of
/// models, as multiplying zeros takes less power.
std::vector<uint16_t> varied_halves(size_t count) {
  std::vector<uint16_t> halves(count);
  uint32_t state = 1;
  for (uint16_t& half : halves) {
    state = state * 1664525u + 1013904223u;
    half = static_cast<uint16_t>((state >> 16 & 0x83ffu) | 0x3800u);  // ±[0.5, 1)
  }
  return halves;
}

class TileTrial {
 public:
  explicit TileTrial(Device& device, const CancelToken* cancel)
      : device_(device), cancel_(cancel), current_(device), timer_(device) {}

  bool is_busy() {
    const TileCase one{false, kSmallest, 1, kShortSteps};
    const TileTime& time = kBuiltInTimes.halves[one.tile];
    make_room({one});
    return !(measure(one, 1) <= kBusy * (time.latency * static_cast<double>(one.steps) + time.block));
  }

  void measure(const TileTimes& guess, TileVerdict& verdict) {
    std::vector<TileCase> largest;
    for (int tile = 0; tile < kTiles; ++tile)
      largest.push_back({false, tile, blocks_of(guess.halves[tile]), kLongSteps});
    const bool with_int8 = device_.capability() >= kMinCapabilityOfInt8;
    for (int tile = 0; with_int8 && tile < kInt8TileCount; ++tile)
      largest.push_back({true, tile, blocks_of(guess.int8[tile]), kLongSteps});
    make_room(largest);
    double before = 0;
    for (int round = 0; round < kMaxRounds; ++round) {
      double total = 0;
      for (const TileCase& one : largest) total += measure_tile(one, verdict);
      if (round + 1 >= kMinRounds && total > kFaster * before) break;
      before = total;
    }
  }

 private:
  int64_t blocks_of(const TileTime& time) const { return int64_t{time.resident} * device_.multiprocessors(); }

  /// Keeps the least of all rounds. Microseconds of this one.
  double measure_tile(const TileCase& one, TileVerdict& verdict) {
    TileMeasurement& best = one.int8 ? verdict.int8[one.tile] : verdict.halves[one.tile];
    double total = 0;
    const auto keep = [&](double& least, const TileCase& tried) {
      const double time = measure(tried);
      least = least > 0 ? std::min(least, time) : time;
      total += time;
    };
    keep(best.long_full, one);
    keep(best.short_full, {one.int8, one.tile, one.blocks, kShortSteps});
    keep(best.long_alone, {one.int8, one.tile, device_.multiprocessors(), kLongSteps});
    return total;
  }

  void make_room(const std::vector<TileCase>& cases) {
    size_t in = 0, out = 0;
    for (const TileCase& one : cases) {
      const ProductArgs args = arguments(one);
      in = std::max(in, input_bytes(one, args)), out = std::max(out, output_bytes(args));
    }
    input_ = Buffer(), output_ = Buffer();
    input_ = Buffer(device_, in), output_ = Buffer(device_, out);
    const std::vector<uint16_t> halves = varied_halves(std::min(in, size_t{1} << 19) / 2);
    const size_t filled = halves.size() * 2;
    device_.upload(input_.address(), halves.data(), filled, timer_.stream());
    for (size_t at = filled; at < in; at += filled)
      device_.copy(input_.address() + at, input_.address(), std::min(filled, in - at), timer_.stream());
  }

  /// Microseconds of a launch.
  double measure(const TileCase& one, int at_once = 5) {
    if (cancel_) cancel_->check();
    ProductArgs args = arguments(one);
    args.y = pointer<half>(output_.address());
    const ProductPlan plan =
        one.int8 ? plan_int8_tile(args, one.tile, 1) : plan_tile(args, true, one.tile, 1);
    args.splits = plan.splits, args.split_steps = plan.split_steps, args.span = plan.span;
    const Address input = input_.address();
    if (!one.int8) args.x = args.weights = pointer<half>(input);
    const Int8ProductArgs int8{args, pointer<signed char>(input), pointer<float>(input),
                               pointer<signed char>(input), pointer<uint32_t>(input)};
    const auto launch = [&](StreamHandle stream) {
      if (one.int8)
        device_.launch(stream, plan.kernel, plan.grid, int8);
      else
        device_.launch(stream, plan.kernel, plan.grid, args);
    };
    return timer_.measure(launch, 1, at_once).front();
  }

  Device& device_;
  const CancelToken* cancel_;
  Device::Current current_;
  Buffer input_, output_;
  KernelTimer timer_;
};

/// With as many blocks side by side as this GPU has room for.
TileTimes guess_for(const Device& device) {
  TileTimes guess;
  const auto set_resident = [&](TileTime& time, Kernel kernel) {
    time.resident = std::max(1, device.resident_blocks(kernel));
  };
  const ProductArgs args = arguments({});
  for (int tile = 0; tile < kTiles; ++tile)
    set_resident(guess.halves[tile], plan_tile(args, true, tile, 1).kernel);
  for (int tile = 0; tile < kInt8TileCount; ++tile)
    set_resident(guess.int8[tile], plan_int8_tile(arguments({true, tile}), tile, 1).kernel);
  return guess;
}

}  // namespace

TileTimes fit_tiles(const TileTimes& guess, const TileVerdict& measured) {
  double logarithms = 0;
  for (int tile = 0; tile < kTiles; ++tile)
    logarithms += std::log(measured.halves[tile].long_full / modelled_long_full(guess.halves[tile]));
  const double card = std::exp(logarithms / kTiles);
  if (!(card > 0) || !std::isfinite(card)) return kBuiltInTimes;
  TileTimes times = guess;
  for (int tile = 0; tile < kTiles; ++tile)
    times.halves[tile] = fit_tile(guess.halves[tile], measured.halves[tile], card);
  for (int tile = 0; tile < kInt8TileCount; ++tile)
    if (measured.int8[tile].long_full > 0)
      times.int8[tile] = fit_tile(guess.int8[tile], measured.int8[tile], card);
  return times;
}

TileVerdict try_tiles(Device& device, const CancelToken* cancel) {
  constexpr const char* kBuiltIn = "built in: ";
  TileVerdict verdict;
  if (!may_try_tiles()) {
    verdict.note = std::string(kBuiltIn) + "NODE_DIFFUSION_CUDA_TILES says so";
    return verdict;
  }
  const Clock::time_point begin = Clock::now();
  try {
    TileTrial trial(device, cancel);
    if (trial.is_busy()) {
      verdict.note = std::string(kBuiltIn) + "the GPU is busy or too slow to measure";
    } else {
      const TileTimes guess = guess_for(device);
      trial.measure(guess, verdict);
      verdict.times = fit_tiles(guess, verdict);
      verdict.note = "measured on this GPU";
    }
  } catch (const Error& error) {
    if (error.code() != ErrorCode::out_of_memory) throw;
    verdict.note = std::string(kBuiltIn) + "too little memory to measure";
  }
  verdict.milliseconds = std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
  return verdict;
}

}  // namespace nd::cuda
