#include "control/t2i_adapter.h"

#include <algorithm>
#include <mutex>
#include <string>

#include "core/require.h"
#include "nn/profile.h"

namespace nd {
namespace {

/// Squares of f × f pixels of a picture [c][h][w] become channels [c·f²][to_h][to_w], as torch's
/// pixel_unshuffle.
void unshuffle(const float* picture, int64_t c, int64_t h, int64_t w, int64_t f, int64_t to_h, int64_t to_w,
               float* to) {
  for (int64_t channel = 0; channel < c * f * f; ++channel) {
    const float* plane = picture + channel / (f * f) * h * w;
    const int64_t dy = channel / f % f, dx = channel % f;
    for (int64_t y = 0; y < to_h; ++y) {
      const float* row = plane + std::min(f * y + dy, h - 1) * w;
      for (int64_t x = 0; x < to_w; ++x) *to++ = row[std::min(f * x + dx, w - 1)];
    }
  }
}

}  // namespace

void T2iAdapterConfig::check() const {
  require(image_channels >= 1 && factor >= 1 && blocks >= 1,
          "Expected T2I-Adapter imageChannels, factor and blocks of at least 1");
  require(!channels.empty() && halves.size() == channels.size(),
          "Expected T2I-Adapter channels and halves of the same length of at least 1");
  for (const int64_t width : channels)
    require(width >= 1 && (!light || width % 4 == 0),
            "Expected T2I-Adapter channels of at least 1, multiples of 4 in a light one");
}

T2iAdapter::T2iAdapter(const T2iAdapterConfig& config, Loader& loader)
    : config_((config.check(), config)), backend_(loader.backend()), workspace_(backend_) {
  const OncePerImage once(loader);
  // Small, and computed once per image: not worth an error in the features of all steps.
  Conv2dOptions fine, pointwise = Conv2dOptions::pointwise();
  fine.role = pointwise.role = Role::input_output;
  int64_t channels = config.image_channels * config.factor * config.factor;
  if (!config.light) {
    conv_in_ = loader.conv2d("conv_in", channels, config.channels[0], fine);
    channels = config.channels[0];
  }
  for (size_t i = 0; i < config.channels.size(); ++i) {
    const std::string prefix = "body." + std::to_string(i) + ".";
    const int64_t out = config.channels[i], width = config.light ? out / 4 : out;
    Level level;
    level.halves = config.halves[i] != 0;
    if (config.light || channels != width)
      level.in = loader.conv2d(prefix + "in_conv", channels, width, pointwise);
    for (int64_t j = 0; j < config.blocks; ++j) {
      const std::string block = prefix + "resnets." + std::to_string(j) + ".";
      level.blocks.push_back(
          {loader.conv2d(block + "block1", width, width, fine),
           loader.conv2d(block + "block2", width, width, config.light ? fine : pointwise)});
    }
    if (config.light) level.out = loader.conv2d(prefix + "out_conv", width, out, pointwise);
    levels_.push_back(std::move(level));
    channels = out;
  }
}

T2iAdapter::Size T2iAdapter::first_size(int64_t h, int64_t w) const {
  return {(h + config_.factor - 1) / config_.factor, (w + config_.factor - 1) / config_.factor};
}

template <class Keep>
void T2iAdapter::forward(ForwardContext& ctx, const float* squares, Size size, Keep keep) const {
  Tensor x = backend_.from_planar(ctx, squares, 1, config_.image_channels * config_.factor * config_.factor,
                                  size.h, size.w);
  if (conv_in_) x = conv_in_->forward(ctx, x);
  for (size_t i = 0; i < levels_.size(); ++i) {
    const Level& level = levels_[i];
    // An odd side ends with a pixel that has no neighbour, as with ceil_mode in torch.
    if (level.halves) x = backend_.average_pool(ctx, x);
    if (level.in) x = level.in->forward(ctx, x);
    for (const Residual& block : level.blocks) {
      Epilogue relu, sum;
      relu.activation = Activation::relu;
      sum.residual = &x;
      const Tensor hidden = block.first->forward(ctx, x, nullptr, relu);
      x = block.second->forward(ctx, hidden, nullptr, sum);
    }
    if (level.out) x = level.out->forward(ctx, x);
    keep(i, x);
  }
}

void T2iAdapter::embed(const float* pictures, int64_t n, int64_t h, int64_t w, KeptTensors& to,
                       const CancelToken* cancel) {
  require(n >= 1 && h >= 1 && w >= 1, "Expected pictures of at least one pixel");
  const std::lock_guard<std::mutex> lock(to.mutex);
  const int64_t c = config_.image_channels, f = config_.factor;
  const Size size = first_size(h, w);
  std::vector<float> squares(static_cast<size_t>(c * f * f * size.h * size.w));
  for (int64_t i = 0; i < n; ++i) {
    unshuffle(pictures + i * c * h * w, c, h, w, f, size.h, size.w, squares.data());
    workspace_.run(cancel, [&](ForwardContext& ctx) {
      if (!ctx.measuring()) to.allocate(ctx);
      forward(ctx, squares.data(), size, [&](size_t index, const Tensor& feature) {
        if (ctx.measuring())
          to.expect(index, n, feature.h, feature.w, feature.c);
        else
          backend_.copy_rows(ctx, feature, 0, to.view(index), i * feature.pixels(), feature.pixels());
      });
    });
  }
  workspace_.trim();
}

T2iAdapterMemory T2iAdapter::memory(int64_t n, int64_t h, int64_t w) const {
  const Profile::Counting uncounted(nullptr);  // not the work of each prediction
  const Size size = first_size(h, w);
  const int64_t floats = config_.image_channels * config_.factor * config_.factor * size.h * size.w;
  KeptTensors kept;
  T2iAdapterMemory bytes;
  bytes.working = static_cast<size_t>(floats) * sizeof(float);
  bytes.working += Workspace::measure(backend_, [&](ForwardContext& ctx) {
    forward(ctx, nullptr, size, [&](size_t index, const Tensor& feature) {
      kept.expect(index, n, feature.h, feature.w, feature.c);
    });
  });
  bytes.features = kept.bytes(backend_.element_bytes());
  return bytes;
}

}  // namespace nd
