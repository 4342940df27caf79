// Layers that read two tensors side by side, against the same layers of their concatenation.
#include "cuda/layers/moments.h"
#include "changed_driver.h"
#include "driver.h"
#include "fixture_models.h"
#include "nn/loader.h"
#include "nn/res_block.h"
#include "nn/workspace.h"
#include "random_model.h"
#include "support.h"
#include "weights/formats/traits.h"

namespace nd::cuda_test {
namespace {

using namespace nd::cuda;

constexpr int64_t kImages = 2, kHeight = 7, kWidth = 5, kOut = 24;
constexpr double kMost = 1e-3;  // one unit in the last place of the halves

/// Channels of the first tensor and of the second; 0: the first is empty, and both are the second.
struct Widths {
  int64_t first, second;
  int64_t sum() const { return (first ? first : second) + second; }
  std::string name() const { return std::to_string(first) + "+" + std::to_string(second); }
};

Tensor image(ForwardContext& ctx, const std::string& seed, int64_t channels) {
  const std::vector<float> values = noise(seed, kImages * channels * kHeight * kWidth);
  return backend().from_planar(ctx, values.data(), kImages, channels, kHeight, kWidth);
}

JoinedTensor joined(ForwardContext& ctx, const Widths& widths) {
  Tensor first = widths.first ? image(ctx, "first", widths.first) : Tensor();
  return {std::move(first), image(ctx, "second", widths.second)};
}

std::vector<float> to_host(ForwardContext& ctx, const Tensor& x) {
  std::vector<float> values(static_cast<size_t>(x.size()));
  backend().to_planar(ctx, x, values.data());
  return values;
}

struct Outcome {
  std::vector<float> got, want;
  int64_t launches = 0;  // of the layer that reads both
};

/// got(ctx, x) reads both, and want(ctx, both) what concatenates them.
template <class Got, class Want>
Outcome outcome(const Widths& widths, const Got& got, const Want& want) {
  Outcome result;
  Workspace(backend()).run(nullptr, [&](ForwardContext& ctx) {
    JoinedTensor x = joined(ctx, widths);
    const Tensor both = x.concatenated(ctx);
    result.want = to_host(ctx, want(ctx, both));
    const int64_t before = emu::driver_counts.launches;
    const Tensor y = got(ctx, x);
    result.launches = emu::driver_counts.launches - before;
    result.got = to_host(ctx, y);
  });
  return result;
}

std::string launched(const Outcome& result, int64_t count) {
  if (on_hardware() || result.launches == count) return "";
  return std::to_string(result.launches) + " launches instead of " + std::to_string(count);
}

/// A 1×1 convolution with weights of this type. Sums are added in the same order, so that all bits are equal.
void pointwise(const Widths& widths, TensorType type, int64_t launches) {
  const std::string kind = type == TensorType::q8_0 ? ", quantized" : "";
  in_all_orders("cuda/joined pointwise convolution of " + widths.name() + kind, [=] {
    const int64_t out = type == TensorType::q8_0 ? 128 : kOut;  // small ones are not kept in blocks
    const std::vector<float> values = noise("kernel", out * widths.sum());
    std::vector<uint8_t> bytes(static_cast<size_t>(stored_bytes(type, static_cast<int64_t>(values.size()))));
    traits(type).encode(values.data(), static_cast<int64_t>(values.size()), bytes.data());
    Conv2dWeights weights;
    weights.in = widths.sum(), weights.out = out;
    weights.bias = noise("bias", out);
    weights.kernel.shape = {out, widths.sum(), 1, 1};
    weights.kernel.type = type, weights.kernel.bytes = bytes.size();
    weights.kernel.data = {std::shared_ptr<const uint8_t>(), bytes.data()};
    const WeightTable none;
    Loader loader(none, backend());
    const auto layer = backend().conv2d(loader, std::move(weights), Conv2dOptions::pointwise());
    const Outcome result = outcome(
        widths, [&](ForwardContext& ctx, const JoinedTensor& x) { return layer->forward_joined(ctx, x); },
        [&](ForwardContext& ctx, const Tensor& both) { return layer->forward(ctx, both); });
    const std::string why = launched(result, launches);
    return !why.empty() || same(result.got, result.want) ? why : "not the same bits";
  });
}

std::unique_ptr<nd::GroupNorm> norm_of(Loader& loader, int64_t channels, int64_t groups) {
  return backend().group_norm(loader, {noise("gamma", channels), noise("beta", channels)}, groups, 1e-5f);
}

/// Neither tensor has moments beside it, so that two kernels take them.
void norm(const Widths& widths, int64_t groups) {
  const std::string name = widths.name() + ", groups " + std::to_string(groups);
  const WeightTable none;
  in_all_orders("cuda/joined group norm of " + name, [&] {
    Loader loader(none, backend());
    const auto layer = norm_of(loader, widths.sum(), groups);
    const Outcome result = outcome(
        widths,
        [&](ForwardContext& ctx, const JoinedTensor& x) { return layer->forward_joined(ctx, x, true); },
        [&](ForwardContext& ctx, const Tensor& both) { return layer->forward(ctx, both, true); });
    const std::string why = launched(result, 3);
    return why.empty() ? within(result.got, result.want, kMost) : why;
  });
  in_all_orders("cuda/joined modulated group norm of " + name, [&] {
    Loader loader(none, backend());
    const auto layer = norm_of(loader, widths.sum(), groups);
    const std::vector<float> values = noise("modulations", kImages * (2 * widths.sum() + 3));
    const auto modulations = [&](ForwardContext& ctx) {
      Tensor x(ctx, kImages, 1, 1, 2 * widths.sum() + 3);
      if (!ctx.measuring()) backend().put(ctx, values.data(), x, 0, kImages);
      return x;
    };
    const Outcome result = outcome(
        widths,
        [&](ForwardContext& ctx, const JoinedTensor& x) {
          return layer->modulated_joined(ctx, x, modulations(ctx), 3, Activation::gelu);
        },
        [&](ForwardContext& ctx, const Tensor& both) {
          return layer->modulated(ctx, both, modulations(ctx), 3, Activation::gelu);
        });
    return within(result.got, result.want, kMost);
  });
}

/// Moments that the producers of both have taken are used, until something writes into one.
void moments(bool changed) {
  in_all_orders(
      std::string("cuda/joined group norm of known moments") + (changed ? ", one of which changed" : ""),
      [=] {
        const int64_t channels = 40;
        const std::vector<float> kernel = noise("kernel", channels * channels * 9);
        Conv2dWeights weights;
        weights.in = weights.out = channels;
        weights.kernel.shape = {channels, channels, 3, 3};
        weights.kernel.type = TensorType::f32, weights.kernel.bytes = kernel.size() * sizeof(float);
        weights.kernel.data = {std::shared_ptr<const uint8_t>(),
                               reinterpret_cast<const uint8_t*>(kernel.data())};
        Conv2dOptions options;
        options.feeds_group_norm = true;
        const WeightTable none;
        Loader loader(none, backend());
        const auto producer = backend().conv2d(loader, std::move(weights), options);
        const auto layer = norm_of(loader, 2 * channels, 5);
        Outcome result;
        Workspace(backend()).run(nullptr, [&](ForwardContext& ctx) {
          const Tensor input = image(ctx, "first", channels), other = image(ctx, "second", channels);
          const JoinedTensor x(producer->forward(ctx, input), producer->forward(ctx, other));
          if (changed && !ctx.measuring()) backend().add_rows(ctx, input, 0, x.second(), 9, 30, 20, false);
          const int64_t before = emu::driver_counts.launches;
          const Tensor y = layer->forward_joined(ctx, x, true);
          result.launches = emu::driver_counts.launches - before;
          result.got = to_host(ctx, y);
          result.want = to_host(ctx, layer->forward(ctx, x.concatenated(ctx), true));
        });
        const std::string why = launched(result, changed ? 2 : 1);
        return why.empty() ? within(result.got, result.want, kMost) : why;
      });
}

struct Block {
  Block(const ResBlockOptions& options, Loader& loader) : block(loader, "block", options) {}
  ResBlock block;
};

int concatenations = 0;
double count_concatenations(const char* kernel, int64_t, const void*) {
  if (std::string(kernel) == "concat") ++concatenations;
  return 1;
}

/// A residual block without a shortcut concatenates its input, and one with a shortcut does not.
void block(const Widths& widths, int64_t out, int concatenates) {
  in_all_orders("cuda/joined residual block of " + widths.name() + " to " + std::to_string(out), [=] {
    ResBlockOptions options;
    options.in = widths.sum(), options.out = out, options.norm_groups = 4;
    const auto model = load_random<Block>(backend(), options);
    if (!on_hardware()) {
      concatenations = 0;
      ChangedDriver driver;
      driver->launch_time = count_concatenations;  // computes nothing
      Workspace(backend()).run(
          nullptr, [&](ForwardContext& ctx) { model->block.forward(ctx, joined(ctx, widths), nullptr); });
      if (concatenations != concatenates) return std::to_string(concatenations) + " concatenations";
    }
    const Outcome result = outcome(
        widths,
        [&](ForwardContext& ctx, JoinedTensor& x) {
          return model->block.forward(ctx, std::move(x), nullptr);
        },
        [&](ForwardContext& ctx, const Tensor& both) { return model->block.forward(ctx, both, nullptr); });
    return within(result.got, result.want, kMost);
  });
}

const Register suite([] {
  pointwise({32, 8}, TensorType::f32, 1);
  pointwise({64, 40}, TensorType::f32, 1);
  pointwise({0, 32}, TensorType::f32, 1);
  // The border is within a step, or chunks of 8 channels have some of both: these are concatenated.
  pointwise({40, 24}, TensorType::f32, 2);
  pointwise({13, 5}, TensorType::f32, 2);
  pointwise({64, 64}, TensorType::q8_0, 2);
  norm({32, 16}, 3);
  norm({13, 5}, 3);
  norm({0, 20}, 4);
  moments(false);
  moments(true);
  block({32, 16}, 24, 0);
  block({0, 32}, 32, 0);
  block({20, 20}, 40, 1);
});

}  // namespace
}  // namespace nd::cuda_test
