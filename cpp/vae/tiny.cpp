#include "vae/tiny.h"

#include <cmath>
#include <string>
#include <utility>

#include "core/error.h"
#include "vae/bands.h"

namespace nd {
namespace {

constexpr float kMagnitude = 3.0f;  // latents are squashed to ±3 before they are decoded

void require_sizes(int64_t n, int64_t h, int64_t w) {
  if (n >= 1 && h >= 1 && w >= 1) return;
  throw Error(ErrorCode::invalid_argument, "Expected at least 1 image of at least 1x1 but received " +
                                               std::to_string(n) + " of " + std::to_string(h) + "x" +
                                               std::to_string(w));
}

/// Makes the layers of the encoder or decoder under their numbers in diffusers' nn.Sequential, where modules
/// without weights also count.
class Builder {
 public:
  Builder(Loader& loader, const TinyVaeConfig& config, const char* half,
          std::vector<std::shared_ptr<const Conv2d>>& layers)
      : loader_(loader), config_(config), prefix_(std::string(half) + ".layers."), layers_(layers) {}

  void conv(int64_t in, int64_t out, Conv2dOptions options = {}) {
    layers_.push_back(loader_.conv2d(prefix_ + std::to_string(number_++), in, out, options));
  }
  void skip() { ++number_; }
  void blocks(int64_t count) {
    for (int64_t i = 0; i < count; ++i, ++number_)
      for (const char* part : {".conv.0", ".conv.2", ".conv.4"})
        layers_.push_back(
            loader_.conv2d(prefix_ + std::to_string(number_) + part, config_.width, config_.width));
  }

 private:
  Loader& loader_;
  const TinyVaeConfig& config_;
  const std::string prefix_;
  std::vector<std::shared_ptr<const Conv2d>>& layers_;
  int number_ = 0;
};

/// Adds relu(x + conv(relu(conv(relu(conv(x)))))) of three layers; returns the layer after them.
const std::shared_ptr<const Conv2d>* add_block(Chain& chain, const std::shared_ptr<const Conv2d>* layer) {
  for (int i = 0; i < 3; ++i) {
    Link link;
    link.conv = (layer++)->get();
    link.relu = true;
    link.opens_residual = i == 0;
    link.closes_residual = i == 2;
    chain.add(link);
  }
  return layer;
}

}  // namespace

void TinyVaeConfig::check() const {
  const auto require = [](bool holds, const std::string& message) {
    if (!holds) throw Error(ErrorCode::invalid_argument, message);
  };
  require(in_channels >= 1 && out_channels >= 1 && latent_channels >= 1 && width >= 1,
          "Expected inChannels, outChannels, latentChannels and width of at least 1");
  require(
      !decoder_blocks.empty() && (encoder_blocks.empty() || encoder_blocks.size() == decoder_blocks.size()),
      "Expected encoderBlocks and decoderBlocks of the same length of at least 1 but received " +
          std::to_string(encoder_blocks.size()) + " and " + std::to_string(decoder_blocks.size()));
  for (const auto* list : {&encoder_blocks, &decoder_blocks})
    for (const int64_t count : *list) require(count >= 0, "Expected a number of blocks of at least 0");
}

TinyVae::TinyVae(const TinyVaeConfig& config, Loader& loader)
    : config_(config), backend_(loader.backend()), encoder_(false), decoder_(true), workspace_(backend_) {
  config.check();
  loader.precision().i8_allowed = false;
  Conv2dOptions halve, twice;
  halve.stride = 2;
  twice.upsample = true;
  halve.bias = twice.bias = false;

  Builder encoder(loader, config, "encoder", encoder_layers_),
      decoder(loader, config, "decoder", decoder_layers_);
  for (size_t level = 0; level < config.encoder_blocks.size(); ++level) {
    level == 0 ? encoder.conv(config.in_channels, config.width)
               : encoder.conv(config.width, config.width, halve);
    encoder.blocks(config.encoder_blocks[level]);
  }
  if (!config.encoder_blocks.empty()) encoder.conv(config.width, config.latent_channels);
  decoder.conv(config.latent_channels, config.width);
  decoder.skip();  // ReLU
  for (size_t level = 0; level < config.decoder_blocks.size(); ++level) {
    decoder.blocks(config.decoder_blocks[level]);
    if (level + 1 == config.decoder_blocks.size()) break;
    decoder.skip();  // nearest doubling, folded into the convolution after it
    decoder.conv(config.width, config.width, twice);
  }
  decoder.conv(config.width, config.out_channels);

  const std::shared_ptr<const Conv2d>* layer = encoder_layers_.data();
  for (size_t level = 0; level < config.encoder_blocks.size(); ++level) {
    if (level == 0) encoder_.add((layer++)->get());
    for (int64_t i = 0; i < config.encoder_blocks[level]; ++i) layer = add_block(encoder_, layer);
    if (level + 1 < config.encoder_blocks.size()) encoder_.add((layer++)->get());
    encoder_.end_level();
  }
  if (!config.encoder_blocks.empty()) encoder_.add(layer->get());
  layer = decoder_layers_.data();
  Link first;
  first.conv = (layer++)->get();
  first.relu = true;
  decoder_.add(first);
  for (size_t level = 0; level < config.decoder_blocks.size(); ++level) {
    if (level > 0) decoder_.add((layer++)->get());
    for (int64_t i = 0; i < config.decoder_blocks[level]; ++i) layer = add_block(decoder_, layer);
    decoder_.end_level();
  }
  decoder_.add(layer->get());
}

const Chain& TinyVae::encoder() const {
  if (!config_.encoder_blocks.empty()) return encoder_;
  throw Error(ErrorCode::unsupported_model, "This tiny autoencoder has no encoder");
}

void TinyVae::forward(ForwardContext& ctx, const Chain& chain, const PlanarSource& source, const Plan& plan,
                      const PlanarTarget& target) const {
  const size_t count = chain.links().size(), whole = plan.banded() ? plan.first : count;
  Tensor x;
  if (whole > 0) {
    x = backend_.read_planes(ctx, source, {0, source.shape.h});
    x = chain.run(ctx, {std::move(x), {}}, 0, whole, nullptr, false).x;
  }
  if (plan.banded()) {
    const bool ends = plan.last == count;
    x = run_in_bands(ctx, chain, plan, std::move(x), source, ends && target.data ? &target : nullptr);
    if (ends) return;
    x = chain.run(ctx, {std::move(x), {}}, plan.last, count, nullptr, false).x;
  }
  backend_.write_planes(ctx, x, 0, {0, x.h}, target);
}

size_t TinyVae::bytes(const Chain& chain, const ImageShape& shape, const Plan& plan) const {
  return Workspace::measure(backend_, [&](ForwardContext& ctx) {
    forward(ctx, chain, {nullptr, shape}, plan, {});
  });
}

Plan TinyVae::plan(const Chain& chain, const ImageShape& shape, size_t max_bytes) const {
  KnownPlans& known = &chain == &decoder_ ? decode_plans_ : encode_plans_;
  return known.choose(chain, shape, max_bytes, backend_.max_elements(),
                      [&](const Plan& plan) { return bytes(chain, shape, plan); });
}

void TinyVae::convert(const Chain& chain, const float* in, int64_t n, const ImageShape& shape,
                      size_t max_bytes,
                      float* out,  // NOLINT(readability-non-const-parameter): PlanarTarget writes there
                      const CancelToken* cancel) {
  const Plan chosen = plan(chain, shape, max_bytes);
  const ImageShape result = chain.shapes(shape).back();
  const bool decodes = &chain == &decoder_;
  for (int64_t i = 0; i < n; ++i) {
    PlanarSource source{in + i * shape.size(), shape};
    PlanarTarget target{out + i * result.size(), result.h};
    std::vector<float> squashed;
    if (decodes) {
      squashed.assign(source.data, source.data + shape.size());
      for (float& x : squashed) x = std::tanh(x / kMagnitude) * kMagnitude;
      source.data = squashed.data();
      target.scale = 2.0f, target.shift = -1.0f;  // the layers' images are 0…1
    } else {
      source.scale = source.shift = 0.5f;
    }
    workspace_.run(cancel, [&](ForwardContext& ctx) { forward(ctx, chain, source, chosen, target); });
  }
}

void TinyVae::encode(const float* image, int64_t n, int64_t h, int64_t w, size_t max_bytes, float* out,
                     const CancelToken* cancel) {
  require_sizes(n, h, w);
  convert(encoder(), image, n, {h, w, config_.in_channels}, max_bytes, out, cancel);
}

void TinyVae::decode(const float* latents, int64_t n, int64_t h, int64_t w, size_t max_bytes, float* out,
                     const CancelToken* cancel) {
  require_sizes(n, h, w);
  convert(decoder_, latents, n, {h, w, config_.latent_channels}, max_bytes, out, cancel);
}

Plan TinyVae::encode_plan(int64_t h, int64_t w, size_t max_bytes) const {
  require_sizes(1, h, w);
  return plan(encoder(), {h, w, config_.in_channels}, max_bytes);
}

Plan TinyVae::decode_plan(int64_t h, int64_t w, size_t max_bytes) const {
  require_sizes(1, h, w);
  return plan(decoder_, {h, w, config_.latent_channels}, max_bytes);
}

size_t TinyVae::encode_bytes(int64_t h, int64_t w, size_t max_bytes) const {
  return bytes(encoder(), {h, w, config_.in_channels}, encode_plan(h, w, max_bytes));
}

size_t TinyVae::decode_bytes(int64_t h, int64_t w, size_t max_bytes) const {
  return bytes(decoder_, {h, w, config_.latent_channels}, decode_plan(h, w, max_bytes));
}

}  // namespace nd
