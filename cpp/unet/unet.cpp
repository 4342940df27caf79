#include "unet/unet.h"

#include <algorithm>
#include <atomic>
#include <string>
#include <utility>

#include "core/error.h"

namespace nd {
namespace {

uint64_t next_weights_id() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

}  // namespace

Unet::Unet(const UnetConfig& config, Loader& loader)
    : config_(config),
      backend_(loader.backend()),
      weights_id_(next_weights_id()),
      contexts_(backend_.memory()),
      workspace_(backend_) {
  config.check();
  time_ = TimestepEmbedding(loader, config);
  Conv2dOptions outermost;
  outermost.role = Role::input_output;
  const int64_t channels = config.block_channels[0];
  conv_in_ = loader.conv2d("conv_in", config.in_channels, channels, outermost);
  load_encoder(loader);
  load_middle(loader);
  load_decoder(loader);
  norm_out_ = loader.group_norm("conv_norm_out", channels, config.norm_groups, config.norm_eps);
  conv_out_ = loader.conv2d("conv_out", channels, config.out_channels, outermost);
}

Unet::Layer Unet::make_layer(Loader& loader, const std::string& prefix, int64_t index, int64_t in,
                             int64_t level, int64_t depth, bool only_cross_attention) {
  const size_t l = static_cast<size_t>(level);
  const std::string number = std::to_string(index);
  Layer layer;
  layer.number = layers_++;
  layer.shift_offset = shift_channels_;
  layer.merges = level == config_.first_attention_level();
  shift_channels_ += config_.block_channels[l];
  ResBlockOptions block;
  block.in = in;
  block.out = config_.block_channels[l];
  block.norm_groups = config_.norm_groups;
  block.norm_eps = config_.norm_eps;
  block.time_width = config_.time_width();
  block.convolutions = convolution_role(level, config_.levels());
  layer.block = ResBlock(loader, prefix + ".resnets." + number, block);
  if (depth > 0) {
    TransformerOptions options;
    options.channels = config_.block_channels[l];
    options.heads = config_.heads[l];
    options.depth = depth;
    options.context_width = config_.context_width;
    options.norm_groups = config_.norm_groups;
    options.projections = projection_role(level);
    options.only_cross_attention = only_cross_attention;
    layer.transformer =
        std::make_unique<SpatialTransformer>(loader, prefix + ".attentions." + number, options);
  }
  return layer;
}

void Unet::load_encoder(Loader& loader) {
  int64_t channels = config_.block_channels[0];
  for (int64_t level = 0; level < config_.levels(); ++level) {
    const size_t l = static_cast<size_t>(level);
    const std::string prefix = "down_blocks." + std::to_string(level);
    EncoderLevel result;
    for (int64_t i = 0; i < config_.layers_per_block[l]; ++i) {
      result.layers.push_back(make_layer(loader, prefix, i, channels, level,
                                         config_.down_transformer_depth[l].of(i), config_.only_cross(level)));
      channels = config_.block_channels[l];
    }
    if (level + 1 < config_.levels()) {
      Conv2dOptions halve;
      halve.stride = 2;
      result.downsample = loader.conv2d(prefix + ".downsamplers.0.conv", channels, channels, halve);
    }
    encoder_.push_back(std::move(result));
  }
}

void Unet::load_middle(Loader& loader) {
  if (config_.mid_transformer_depth < 0) return;
  const int64_t level = config_.levels() - 1, channels = config_.block_channels.back();
  middle_.push_back(
      make_layer(loader, "mid_block", 0, channels, level, config_.mid_transformer_depth, false));
  // Without attention diffusers builds the middle of one residual block, not two in a row.
  if (config_.mid_transformer_depth > 0)
    middle_.push_back(make_layer(loader, "mid_block", 1, channels, level, 0, false));
}

void Unet::load_decoder(Loader& loader) {
  // Channels of the skip connections in the order of the encoder; the decoder takes them from the back.
  std::vector<int64_t> skips = {config_.block_channels[0]};
  for (size_t l = 0; l < config_.block_channels.size(); ++l) {
    const bool downsamples = l + 1 < config_.block_channels.size();
    skips.insert(skips.end(), static_cast<size_t>(config_.layers_per_block[l]) + (downsamples ? 1 : 0),
                 config_.block_channels[l]);
  }
  int64_t channels = config_.block_channels.back();
  for (int64_t i = 0; i < config_.levels(); ++i) {
    const int64_t level = config_.levels() - 1 - i;
    const size_t l = static_cast<size_t>(level);
    const std::string prefix = "up_blocks." + std::to_string(i);
    DecoderLevel result;
    for (int64_t j = 0; j <= config_.layers_per_block[l]; ++j) {
      result.layers.push_back(make_layer(loader, prefix, j, channels + skips.back(), level,
                                         config_.up_transformer_depth[l].of(j), config_.only_cross(level)));
      skips.pop_back();
      ++decoder_layers_;
      channels = config_.block_channels[l];
    }
    if (level > 0) {
      Conv2dOptions twice;
      twice.upsample = true;
      result.upsample = loader.conv2d(prefix + ".upsamplers.0.conv", channels, channels, twice);
    }
    decoder_.push_back(std::move(result));
  }
}

template <class Visit>
void Unet::each_layer(const Visit& visit) const {
  for (const EncoderLevel& level : encoder_)
    for (const Layer& layer : level.layers) visit(layer);
  for (const Layer& layer : middle_) visit(layer);
  for (const DecoderLevel& level : decoder_)
    for (const Layer& layer : level.layers) visit(layer);
}

std::vector<size_t> Unet::packed_offsets(int64_t length) const {
  std::vector<size_t> offsets = {0};
  each_layer([&](const Layer& layer) {
    offsets.push_back(offsets.back() + (layer.transformer ? layer.transformer->packed_bytes(length) : 0));
  });
  return offsets;
}

void Unet::pack(ForwardContext& ctx, const float* contexts, int64_t length,
                const std::vector<ContextCache::Fresh>& fresh) const {
  const Tensor context(ctx, static_cast<int64_t>(fresh.size()), 1, length, config_.context_width);
  std::vector<Address> images;
  for (const ContextCache::Fresh& one : fresh) {
    if (!ctx.measuring())
      backend_.put(ctx, contexts + one.image * length * config_.context_width, context,
                   static_cast<int64_t>(images.size()) * length, length);
    images.push_back(one.packed);
  }
  const std::vector<size_t> offsets = packed_offsets(length);
  each_layer([&](const Layer& layer) {
    if (layer.transformer)
      layer.transformer->pack(ctx, context, images.data(), offsets[static_cast<size_t>(layer.number)]);
  });
}

void Unet::cache_context(const Conditioning& conditioning, int64_t n, const CancelToken* cancel) {
  const int64_t length = conditioning.context_length;
  const auto fresh =
      contexts_.place(conditioning.context, n, length * config_.context_width, packed_offsets(length).back());
  if (!fresh.empty())
    workspace_.run(cancel, [&](ForwardContext& ctx) { pack(ctx, conditioning.context, length, fresh); });
  contexts_.settle();
}

void Unet::shifts(ForwardContext& ctx, const TimestepKeys& keys,
                  std::vector<std::vector<float>>& rows) const {
  const Tensor time = time_.forward(ctx, keys);
  each_layer([&](const Layer& layer) {
    const Tensor shift = layer.block.project_time(ctx, time);
    if (ctx.measuring()) return;
    std::vector<float> values(static_cast<size_t>(shift.size()));
    backend_.get(ctx, shift, values.data());
    for (size_t i = 0; i < rows.size(); ++i)
      std::copy_n(values.data() + static_cast<int64_t>(i) * shift.c, shift.c,
                  rows[i].data() + layer.shift_offset);
  });
}

void Unet::prepare(const Conditioning& conditioning, int64_t n, const CancelToken* cancel) {
  cache_shifts(time_.keys(conditioning, std::min(n, TimestepCache::kMaxEntries)), cancel);
}

void Unet::cache_shifts(const TimestepKeys& keys, const CancelToken* cancel) {
  TimestepKeys missing = keys;
  missing.values = timesteps_.missing(keys.values.data(), keys.n, keys.floats);
  missing.n = static_cast<int64_t>(missing.values.size()) / keys.floats;
  if (missing.n == 0) return;
  std::vector<std::vector<float>> rows(static_cast<size_t>(missing.n),
                                       std::vector<float>(static_cast<size_t>(shift_channels_)));
  workspace_.run(cancel, [&](ForwardContext& ctx) { shifts(ctx, missing, rows); });
  for (int64_t i = 0; i < missing.n; ++i)
    timesteps_.add(missing.row(i), std::move(rows[static_cast<size_t>(i)]));
}

void Unet::check(const UnetOptions& options) const {
  const auto require = [](bool holds, const std::string& message) {
    if (!holds) throw Error(ErrorCode::invalid_argument, message);
  };
  // Written so that NaN is refused.
  require(options.token_merging >= 0 && options.token_merging <= 0.75,
          "Expected tokenMerging between 0 and 0.75");
  require(options.depth >= 0 && options.depth <= std::max<int64_t>(max_depth(), 0),
          "Expected depth of deep features of at most " + std::to_string(max_depth()) + " but received " +
              std::to_string(options.depth));
  require(!options.deep || options.depth > 0, "Expected depth of at least 1 for deep features");
}

void Unet::trim() {
  workspace_.trim();
  staged_ = {};
  contexts_.clear();
  timesteps_.clear();
}

}  // namespace nd
