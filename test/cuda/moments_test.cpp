// Moments that a product leaves beside what it writes: used by the normalization that follows, and never
// after anything else has written there.
#include <functional>

#include "cuda/layers/moments.h"
#include "driver.h"
#include "fixture_models.h"
#include "nn/loader.h"
#include "nn/workspace.h"
#include "support.h"

namespace nd::cuda_test {
namespace {

using namespace nd::cuda;

constexpr int64_t kImages = 2, kHeight = 12, kWidth = 10, kChannels = 40, kGroups = 5;
constexpr double kMost = 1e-3;  // one unit in the last place of the halves

/// Tensors of noise in memory.
class Stored {
 public:
  StoredTensor tensor(const std::string& seed, std::vector<int64_t> shape) {
    int64_t count = 1;
    for (const int64_t side : shape) count *= side;
    values_.push_back(std::make_unique<std::vector<float>>(noise(seed, count)));
    StoredTensor result;
    result.name = seed;
    result.shape = std::move(shape);
    result.type = TensorType::f32;
    result.bytes = values_.back()->size() * sizeof(float);
    result.data = {std::shared_ptr<const uint8_t>(),
                   reinterpret_cast<const uint8_t*>(values_.back()->data())};
    return result;
  }

 private:
  std::vector<std::unique_ptr<std::vector<float>>> values_;
};

/// A convolution that feeds a normalization, one that does not, and what else the cases need.
struct Layers {
  Stored stored;
  WeightTable none;
  Loader loader{none, backend()};
  std::unique_ptr<nd::Conv2d> conv = convolution(true), plain = convolution(false);
  std::unique_ptr<nd::GroupNorm> norm =
      backend().group_norm(loader, {noise("gamma", kChannels), noise("beta", kChannels)}, kGroups, 1e-5f);
  std::unique_ptr<nd::FeedForward> feed_forward;

  Layers() {
    LinearWeights in, out;
    in.matrices = {stored.tensor("in", {4 * kChannels, kChannels})};
    in.in = kChannels, in.out_each = 4 * kChannels;
    out.matrices = {stored.tensor("out", {kChannels, 2 * kChannels})};
    out.in = 2 * kChannels, out.out_each = kChannels;
    feed_forward = backend().feed_forward(loader, std::move(in), std::move(out));
  }

  std::unique_ptr<nd::Conv2d> convolution(bool feeds) {
    Conv2dWeights weights;
    weights.in = weights.out = kChannels;
    weights.kernel = stored.tensor("kernel", {kChannels, kChannels, 3, 3});
    Conv2dOptions options;
    options.feeds_group_norm = feeds;
    return backend().conv2d(loader, std::move(weights), options);
  }
};

struct Outcome {
  std::vector<float> got, want;
  int64_t launches = 0;  // of the normalization
};

using Change = std::function<void(ForwardContext& ctx, const Layers& layers, Tensor& x, const Tensor& input)>;

std::vector<float> to_host(ForwardContext& ctx, const Tensor& x) {
  std::vector<float> values(static_cast<size_t>(x.size()));
  backend().to_planar(ctx, x, values.data());
  return values;
}

/// The normalization of a convolution's output after `change`, and that of a view of it, which has no
/// moments. A change that takes no memory is not made while memory is measured, as those of a UNet by a
/// ControlNet's residuals are not.
Outcome outcome(const Change& change, bool takes_memory) {
  const Layers layers;
  const std::vector<float> image = noise("image", kImages * kChannels * kHeight * kWidth);
  Outcome result;
  Workspace(backend()).run(nullptr, [&](ForwardContext& ctx) {
    const Tensor input = backend().from_planar(ctx, image.data(), kImages, kChannels, kHeight, kWidth);
    Tensor x = layers.conv->forward(ctx, input);
    if (takes_memory || !ctx.measuring()) change(ctx, layers, x, input);
    const int64_t before = emu::driver_counts.launches;
    const Tensor y = layers.norm->forward(ctx, x, true);
    result.launches = emu::driver_counts.launches - before;
    result.got = to_host(ctx, y);
    const Tensor view = Tensor::borrowed(x.address(), x.n, x.h, x.w, x.c);
    result.want = to_host(ctx, layers.norm->forward(ctx, view, true));
  });
  return result;
}

void changed(const std::string& name, const Change& change, bool takes_memory = false) {
  in_all_orders("cuda/moments are not those from before " + name, [&] {
    const Outcome result = outcome(change, takes_memory);
    if (!on_hardware() && result.launches != 2) return "launches: " + std::to_string(result.launches);
    return within(result.got, result.want, kMost);
  });
}

void changes() {
  changed("rows were added", [](ForwardContext& ctx, const Layers&, Tensor& x, const Tensor& input) {
    backend().add_rows(ctx, input, 3, x, 7, 60, 9, false);
  });
  changed("rows were replaced", [](ForwardContext& ctx, const Layers&, Tensor& x, const Tensor& input) {
    backend().add_rows(ctx, input, 0, x, 0, 100, 50, true);
  });
  changed("rows were copied", [](ForwardContext& ctx, const Layers&, Tensor& x, const Tensor& input) {
    backend().copy_rows(ctx, input, 0, x, x.rows() - 50, 50);
  });
  changed("a view was written", [](ForwardContext& ctx, const Layers&, Tensor& x, const Tensor& input) {
    const Tensor second = Tensor::borrowed(x.address() + static_cast<size_t>(x.size()), 1, x.h, x.w, x.c);
    backend().add_rows(ctx, input, 0, second, 0, second.rows(), 20, false);
  });
  changed("values were put", [](ForwardContext& ctx, const Layers&, Tensor& x, const Tensor&) {
    const std::vector<float> values(static_cast<size_t>(30 * x.c), 40.0f);
    backend().put(ctx, values.data(), x, x.rows() - 30, 30);
  });
  changed(
      "a masked addition",
      [](ForwardContext& ctx, const Layers&, Tensor& x, const Tensor& input) {
        const std::vector<float> threes(static_cast<size_t>(x.pixels()), 3.0f);
        const Tensor mask(ctx, 1, x.h, x.w, 1);
        if (!ctx.measuring()) backend().put(ctx, threes.data(), mask, 0, x.pixels());
        backend().add_masked(ctx, input, x, 5, &mask);
      },
      true);
  changed("rows were loaded", [](ForwardContext& ctx, const Layers&, Tensor& x, const Tensor& input) {
    const size_t row = static_cast<size_t>(x.w * x.c) * 2;
    backend().load_rows(ctx, {input.address(), row, true}, {0, x.h}, x);
  });
  changed(
      "a feed-forward network",
      [](ForwardContext& ctx, const Layers& layers, Tensor& x, const Tensor& input) {
        layers.feed_forward->add_to(ctx, input, x);
      },
      true);
  changed(
      "another convolution wrote there",
      [](ForwardContext& ctx, const Layers& layers, Tensor& x, const Tensor& input) {
        x = layers.plain->forward_onto(ctx, input, nullptr, std::move(x));
      },
      true);
}

const Register suite([] {
  in_all_orders("cuda/moments are those of the product that wrote the tensor", [] {
    const Outcome result = outcome([](ForwardContext&, const Layers&, Tensor&, const Tensor&) {}, false);
    if (!on_hardware() && result.launches != 1) return "launches: " + std::to_string(result.launches);
    return within(result.got, result.want, kMost);
  });
  in_all_orders("cuda/moments of a convolution that feeds none are not taken", [] {
    const Outcome result = outcome(
        [](ForwardContext& ctx, const Layers& layers, Tensor& x, const Tensor& input) {
          x.release();
          x = layers.plain->forward(ctx, input);
        },
        true);
    if (!on_hardware() && result.launches != 2) return "launches: " + std::to_string(result.launches);
    return within(result.got, result.want, kMost);
  });
  changes();
});

}  // namespace
}  // namespace nd::cuda_test
