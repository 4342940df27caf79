#include "control/control_net.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "core/require.h"
#include "nn/profile.h"

namespace nd {
namespace {

/// Locks all that is kept in the engine, in one order: calls may have been given the same tensors.
std::vector<std::unique_lock<std::mutex>> lock_kept(const ControlInput& input) {
  std::set<const KeptTensors*, std::less<>> kept{input.residuals};
  for (const EmbeddedPictures& pictures : input.pictures) kept.insert(pictures.kept);
  std::vector<std::unique_lock<std::mutex>> locks;
  for (const KeptTensors* one : kept) locks.emplace_back(one->mutex);
  return locks;
}

}  // namespace

void ControlNetConfig::check() const {
  unet.check();
  require(unet.mid_transformer_depth >= 0, "Expected a ControlNet with a middle block");
  require(image_channels >= 1, "Expected a ControlNet imageChannels of at least 1");
  require(!image_widths.empty(), "Expected ControlNet imageWidths to have at least 1 element");
  for (const int64_t width : image_widths)
    require(width >= 1, "Expected ControlNet imageWidths of at least 1");
  require(fusion_layers >= 0, "Expected ControlNet fusionLayers of at least 0");
}

ControlNet::ControlNet(const ControlNetConfig& config, Loader& loader)
    : config_(config),
      backend_(loader.backend()),
      encoder_((config.check(), config.unet), loader),
      workspace_(backend_) {
  const UnetConfig& unet = config.unet;
  const std::vector<int64_t>& widths = config.image_widths;
  Conv2dOptions fine;
  fine.role = Role::input_output;
  const std::string embedding = "controlnet_cond_embedding.";
  std::optional<OncePerImage> once(loader);
  picture_.push_back(loader.conv2d(embedding + "conv_in", config.image_channels, widths[0], fine));
  for (size_t i = 0; i + 1 < widths.size(); ++i) {
    const auto block = [&](size_t number) { return embedding + "blocks." + std::to_string(number); };
    picture_.push_back(loader.conv2d(block(2 * i), widths[i], widths[i], fine));
    Conv2dOptions halve = fine;
    halve.stride = 2;
    picture_.push_back(loader.conv2d(block(2 * i + 1), widths[i], widths[i + 1], halve));
  }
  picture_.push_back(loader.conv2d(embedding + "conv_out", widths.back(), unet.block_channels[0], fine));
  if (config.is_union())
    fusion_ = std::make_unique<ControlFusion>(loader, unet.block_channels[0], unet.control_types,
                                              config.fusion_layers);
  once.reset();

  Conv2dOptions pointwise = Conv2dOptions::pointwise();
  pointwise.role = Role::shortcut;
  const auto add = [&](const std::string& name, int64_t channels) {
    zero_.push_back(loader.conv2d(name, channels, channels, pointwise));
  };
  const auto add_down = [&](int64_t channels) {
    add("controlnet_down_blocks." + std::to_string(zero_.size()), channels);
  };
  add_down(unet.block_channels[0]);
  for (size_t l = 0; l < unet.block_channels.size(); ++l) {
    const bool downsamples = l + 1 < unet.block_channels.size();
    for (int64_t i = 0; i < unet.layers_per_block[l] + (downsamples ? 1 : 0); ++i)
      add_down(unet.block_channels[l]);
  }
  add("controlnet_mid_block", unet.block_channels.back());
}

Tensor ControlNet::embed(ForwardContext& ctx, const float* picture, int64_t h, int64_t w) const {
  const int64_t f = config_.factor();
  Tensor x = backend_.from_planar(ctx, picture, 1, config_.image_channels, f * h, f * w);
  for (size_t i = 0; i < picture_.size(); ++i) {
    Epilogue epilogue;
    if (i + 1 < picture_.size()) epilogue.activation = Activation::silu;
    x = picture_[i]->forward(ctx, x, nullptr, epilogue);
  }
  return x;
}

/// The embedded pictures and, of a union ControlNet, what fusion adds to them where they guide alone and
/// where they guide together with others.
void ControlNet::expect(const ControlPictures& pictures, KeptTensors& to) const {
  const auto& [data, n, h, w, type, scale] = pictures;
  const int64_t channels = config_.unet.block_channels[0];
  to.expect(0, n, h, w, channels);
  for (size_t i = 1; i <= 2 && fusion_; ++i) to.expect(i, n, 1, 1, channels);
}

void ControlNet::embed(ForwardContext& ctx, const ControlPictures& pictures, int64_t index,
                       KeptTensors& to) const {
  const auto& [data, n, h, w, type, scale] = pictures;
  const int64_t floats = config_.image_channels * h * w * config_.factor() * config_.factor();
  const Tensor embedded = embed(ctx, data + index * floats, h, w);
  Tensor alone, together;
  if (fusion_) {
    const std::vector<float> mean = fusion_->mean(ctx, embedded);
    alone = fusion_->forward(ctx, mean, type, 1);
    together = fusion_->forward(ctx, mean, type, scale);
  }
  if (ctx.measuring()) return;
  to.allocate(ctx);
  backend_.copy_rows(ctx, embedded, 0, to.view(0), index * h * w, h * w);
  if (!fusion_) return;
  backend_.copy_rows(ctx, alone, 0, to.view(1), index, 1);
  backend_.copy_rows(ctx, together, 0, to.view(2), index, 1);
}

void ControlNet::embed(const ControlPictures& pictures, KeptTensors& to, const CancelToken* cancel) {
  require(pictures.type >= 0 && pictures.type < std::max<int64_t>(config_.unet.control_types, 1),
          "Expected a type of this ControlNet");
  const std::lock_guard<std::mutex> lock(to.mutex);
  expect(pictures, to);
  // One at a time: at full resolution an embedded picture is several times as large as the picture.
  for (int64_t i = 0; i < pictures.n; ++i)
    workspace_.run(cancel, [&](ForwardContext& ctx) { embed(ctx, pictures, i, to); });
  workspace_.trim();
}

/// The embedded pictures of each row.
ControlNet::Hint ControlNet::hint_of(ForwardContext& ctx, const ControlInput& input) const {
  const auto& [latents, n, h, w, conditioning, resident] = input.unet;
  const int64_t channels = config_.unet.block_channels[0];
  Hint hint{Tensor(ctx, n, h, w, channels), fusion_ ? Tensor(ctx, n, 1, 1, channels) : Tensor()};
  if (ctx.measuring()) return hint;
  const bool alone = input.pictures.size() == 1;
  for (size_t k = 0; k < input.pictures.size(); ++k) {
    const KeptTensors* const kept = input.pictures[k].kept;
    const float scale = input.pictures[k].scale;
    require(kept->in(backend_.memory()) && kept->count() == (fusion_ ? 3U : 1U),
            "Expected an embedded picture for this ControlNet");
    const Tensor pictures = kept->view(0);
    require(pictures.h == h && pictures.w == w && pictures.c == channels,
            "Expected a picture that was embedded for latents of this size");
    for (size_t j = 1; j < kept->count(); ++j)
      require(kept->view(j).n == pictures.n && kept->view(j).pixels() == 1 && kept->view(j).c == channels,
              "Expected an embedded picture for this ControlNet");
    const auto add = [&](const Tensor& from, const Tensor& to, int64_t i, int64_t pixels) {
      const int64_t row = i % pictures.n * pixels;
      if (alone)
        backend_.copy_rows(ctx, from, row, to, i * pixels, pixels);
      else
        backend_.add_rows(ctx, from, row, to, i * pixels, pixels, scale, k == 0);
    };
    for (int64_t i = 0; i < n; ++i) {
      add(pictures, hint.pictures, i, h * w);
      if (fusion_) add(kept->view(alone ? 1 : 2), hint.bias, i, 1);
    }
  }
  return hint;
}

void ControlNet::keep(ForwardContext& ctx, const ControlInput& input, size_t index,
                      const Tensor& residual) const {
  KeptTensors& kept = *input.residuals;
  if (ctx.measuring()) {
    if (input.replaces) kept.expect(index, input.total, residual.h, residual.w, residual.c);
    return;
  }
  const Tensor to = kept.view(index);
  require(to.n == input.total && to.h == residual.h && to.w == residual.w && to.c == residual.c,
          "Expected residuals of a ControlNet for the same UNet");
  const int64_t image = residual.pixels();
  for (int64_t i = 0; i < input.total && input.replaces; ++i)
    if (i < input.first || i >= input.first + residual.n)
      backend_.add_rows(ctx, residual, 0, to, i * image, image, 0, true);
  backend_.add_rows(ctx, residual, 0, to, input.first * image, residual.rows(), input.scales[index],
                    input.replaces);
}

void ControlNet::forward(ForwardContext& ctx, const ControlInput& input, const TimestepKeys& keys,
                         const PackedContext& context, const uint8_t* staged_shifts) const {
  const Tensor shifts = encoder_.shifts(ctx, input.unet.n, keys, staged_shifts);
  const UnetPass pass = encoder_.pass(context, shifts, 0);
  // Before any kernel: nothing is allocated or uploaded while they are recorded.
  if (!ctx.measuring() && input.replaces) input.residuals->allocate(ctx);
  Tensor latents = encoder_.latents(ctx, input.unet);
  std::vector<Tensor> skips;
  {
    const Hint hint = hint_of(ctx, input);
    skips = encoder_.encode(ctx, pass, input.unet, std::move(latents), std::numeric_limits<size_t>::max(),
                            &hint.pictures, fusion_ ? &hint.bias : nullptr);
  }
  const Tensor middle = encoder_.middle(ctx, pass, skips.back());
  for (size_t i = 0; i < zero_.size(); ++i)
    keep(ctx, input, i, zero_[i]->forward(ctx, i < skips.size() ? skips[i] : middle));
}

void ControlNet::predict(const ControlInput& input, const CancelToken* cancel) {
  const auto& [latents, n, h, w, conditioning, resident] = input.unet;
  require(n >= 1 && h >= 1 && w >= 1 && input.first >= 0 && input.first + n <= input.total,
          "Expected latents of at least one element in each dimension");
  require(static_cast<int64_t>(input.scales.size()) == residuals(),
          "Expected " + std::to_string(residuals()) + " scales but received " +
              std::to_string(input.scales.size()));
  const TimestepKeys keys = encoder_.time().keys(conditioning, n);
  encoder_.cache_shifts(workspace_, keys, cancel);
  const PackedContext context = encoder_.cache_context(workspace_, conditioning, n, cancel);
  require(!input.pictures.empty() && (fusion_ || input.pictures.size() == 1),
          "Expected one embedded picture for this ControlNet");
  const std::vector<std::unique_lock<std::mutex>> locks = lock_kept(input);
  require(input.replaces || (input.residuals->in(backend_.memory()) &&
                             static_cast<int64_t>(input.residuals->count()) == residuals()),
          "Expected residuals of a ControlNet for the same UNet");
  if (!backend_.records())
    return workspace_.run(cancel, [&](ForwardContext& ctx) { forward(ctx, input, keys, context, nullptr); });
  ControlInput staged = input;
  staged.unet = encoder_.stage(input.unet, keys, 0, staged_);
  const auto current_key = [&] {
    ForwardKey key = key_of(staged.unet, context, staged_);
    input.residuals->describe(key);
    for (const int64_t size : {input.first, input.total}) append(key, size);
    append(key, input.replaces);
    append(key, input.scales);
    for (const EmbeddedPictures& pictures : input.pictures) {
      pictures.kept->describe(key);
      append(key, std::vector<float>{pictures.scale});
    }
    return key;
  };
  workspace_.run_repeated(current_key, cancel, resident, [&](ForwardContext& ctx) {
    forward(ctx, staged, keys, context, staged_.shifts.data());
  });
}

void ControlNet::prepare(const Conditioning& conditioning, int64_t n, const CancelToken* cancel) {
  const TimestepKeys keys = encoder_.time().keys(conditioning, std::min(n, TimestepCache::kMaxEntries));
  encoder_.cache_shifts(workspace_, keys, cancel);
}

ControlNetMemory ControlNet::memory(int64_t n, int64_t h, int64_t w, int64_t length, int64_t pictures) const {
  KeptTensors kept, residuals;
  ControlInput input;
  input.unet.n = input.total = n, input.unet.h = h, input.unet.w = w;
  input.pictures.resize(1);
  input.residuals = &residuals;
  const TimestepKeys keys = encoder_.time().no_keys(n);
  PackedContext context;
  context.length = length;
  const size_t predicting =
      Workspace::measure(backend_, [&](ForwardContext& ctx) { forward(ctx, input, keys, context, nullptr); });
  const Profile::Counting uncounted(nullptr);  // not the work of each prediction
  ControlPictures embedded;
  embedded.n = pictures, embedded.h = h, embedded.w = w;
  const size_t embedding =
      Workspace::measure(backend_, [&](ForwardContext& ctx) { embed(ctx, embedded, 0, kept); }) +
      (fusion_ ? ControlFusion::host_bytes(h, w, config_.unet.block_channels[0]) : 0);
  const size_t calls =
      std::max(predicting, encoder_.caching_bytes(n, length)) + encoder_.cache_bytes(n, length);
  expect(embedded, kept);
  ControlNetMemory bytes;
  bytes.working = std::max(embedding, calls);
  bytes.pictures = kept.bytes(backend_.element_bytes());
  bytes.residuals = residuals.bytes(backend_.element_bytes());
  return bytes;
}

void ControlNet::trim() {
  workspace_.trim();
  encoder_.clear_caches();
}

}  // namespace nd
