#include "unet/unet.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/error.h"

namespace nd {

Unet::Unet(const UnetConfig& config, Loader& loader) : config_(config), kernels_(loader.kernels) {
  config.check();
  time_ = TimestepEmbedding(loader, "time_embedding", config);
  Conv2dOptions outermost;
  outermost.sensitive = true;
  conv_in_ = Conv2d(loader, "conv_in", config.in_channels, config.block_channels[0], outermost);
  load_down(loader);
  load_middle(loader);
  load_up(loader);
  norm_out_ =
      GroupNorm(loader, "conv_norm_out", config.block_channels[0], config.norm_groups, config.norm_eps);
  conv_out_ = Conv2d(loader, "conv_out", config.block_channels[0], config.out_channels, outermost);
}

Unet::Layer Unet::make_layer(Loader& loader, const std::string& prefix, int64_t index, int64_t in,
                             int64_t level, int64_t depth) {
  const size_t l = static_cast<size_t>(level);
  const std::string number = std::to_string(index);
  Layer layer;
  layer.number = layers_++;
  layer.time_offset = time_channels_;
  layer.merges = level == config_.first_attending_level();
  time_channels_ += config_.block_channels[l];
  // Measured with SD 1.5: the error of Winograd in int8 shows at the finest level, as does that of the
  // projections around the transformers of the two finest; at the coarsest one few pixels share the larger
  // weights.
  const bool finest = level == 0, coarsest = level + 1 == config_.levels();
  Conv2dOptions convolution;
  convolution.winograd_int8 = !finest && !coarsest;
  layer.block = ResBlock(loader, prefix + ".resnets." + number, in, config_.block_channels[l],
                         config_.norm_groups, config_.norm_eps, config_.time_width(), convolution);
  if (depth > 0) {
    TransformerOptions options;
    options.channels = config_.block_channels[l];
    options.heads = config_.heads[l];
    options.depth = depth;
    options.context_width = config_.context_width;
    options.norm_groups = config_.norm_groups;
    options.sensitive_projections = level <= 1;
    layer.attention.emplace_back(loader, prefix + ".attentions." + number, options);
  }
  return layer;
}

void Unet::load_down(Loader& loader) {
  int64_t channels = config_.block_channels[0];
  for (int64_t level = 0; level < config_.levels(); ++level) {
    const size_t l = static_cast<size_t>(level);
    const std::string prefix = "down_blocks." + std::to_string(level);
    Down down;
    for (int64_t i = 0; i < config_.layers_per_block[l]; ++i) {
      down.layers.push_back(
          make_layer(loader, prefix, i, channels, level, config_.down_transformer_depth[l]));
      channels = config_.block_channels[l];
    }
    if (level + 1 < config_.levels()) {
      Conv2dOptions halve;
      halve.stride = 2;
      down.downsample.emplace_back(loader, prefix + ".downsamplers.0.conv", channels, channels, halve);
    }
    down_.push_back(std::move(down));
  }
}

void Unet::load_middle(Loader& loader) {
  if (config_.mid_transformer_depth < 0) return;
  const int64_t level = config_.levels() - 1, channels = config_.block_channels.back();
  middle_.push_back(make_layer(loader, "mid_block", 0, channels, level, config_.mid_transformer_depth));
  // Without attention diffusers builds the middle of one residual block, not two in a row.
  if (config_.mid_transformer_depth > 0)
    middle_.push_back(make_layer(loader, "mid_block", 1, channels, level, 0));
}

void Unet::load_up(Loader& loader) {
  // What the way down leaves behind, in that order; the way up takes it from the back.
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
    Up up;
    for (int64_t j = 0; j <= config_.layers_per_block[l]; ++j) {
      up.layers.push_back(
          make_layer(loader, prefix, j, channels + skips.back(), level, config_.up_transformer_depth[l]));
      skips.pop_back();
      ++up_layers_;
      channels = config_.block_channels[l];
    }
    if (level > 0) up.upsample.emplace_back(loader, prefix + ".upsamplers.0.conv", channels);
    up_.push_back(std::move(up));
  }
}

template <class Visit>
void Unet::each_layer(const Visit& visit) const {
  for (const Down& down : down_)
    for (const Layer& layer : down.layers) visit(layer);
  for (const Layer& layer : middle_) visit(layer);
  for (const Up& up : up_)
    for (const Layer& layer : up.layers) visit(layer);
}

std::vector<int64_t> Unet::packed_offsets(int64_t length) const {
  std::vector<int64_t> offsets = {0};
  each_layer([&](const Layer& layer) {
    int64_t floats = 0;
    for (const SpatialTransformer& attention : layer.attention)
      floats += attention.packed_floats(kernels_, length);
    offsets.push_back(offsets.back() + floats);
  });
  return offsets;
}

void Unet::pack(Run& run, const float* contexts, int64_t length,
                const std::vector<ContextTable::Fresh>& fresh) const {
  Feature context(run, static_cast<int64_t>(fresh.size()), 1, length, config_.context_width);
  std::vector<float*> images;
  for (const ContextTable::Fresh& one : fresh) {
    const int64_t floats = length * config_.context_width;
    if (!run.measuring())
      std::copy_n(contexts + one.image * floats, floats,
                  context.data() + static_cast<int64_t>(images.size()) * floats);
    images.push_back(one.packed);
  }
  const std::vector<int64_t> offsets = packed_offsets(length);
  each_layer([&](const Layer& layer) {
    for (const SpatialTransformer& attention : layer.attention)
      attention.pack(run, context, images.data(), offsets[static_cast<size_t>(layer.number)]);
  });
}

void Unet::prepare_context(const float* context, int64_t n, int64_t length, const CancelToken* cancel) {
  const auto fresh =
      contexts_.place(context, n, length * config_.context_width, packed_offsets(length).back());
  if (!fresh.empty()) workspace_.run(kernels_, cancel, [&](Run& run) { pack(run, context, length, fresh); });
  contexts_.settle();
}

void Unet::shifts(Run& run, const float* timesteps, int64_t n, std::vector<std::vector<float>>& rows) const {
  const Feature time = time_.forward(run, timesteps, n);
  each_layer([&](const Layer& layer) {
    const Feature shift = layer.block.project_time(run, time);
    if (run.measuring()) return;
    for (int64_t i = 0; i < n; ++i) {
      std::vector<float>& row = rows[static_cast<size_t>(i)];
      std::copy_n(shift.data() + i * shift.c, shift.c, row.data() + layer.time_offset);
    }
  });
}

void Unet::prepare(const float* timesteps, int64_t n, const CancelToken* cancel) {
  prepare_times(timesteps, std::min(n, TimeTable::kMost), cancel);
}

void Unet::prepare_times(const float* timesteps, int64_t n, const CancelToken* cancel) {
  const std::vector<float> missing = times_.missing(timesteps, n);
  if (missing.empty()) return;
  std::vector<std::vector<float>> rows(missing.size(),
                                       std::vector<float>(static_cast<size_t>(time_channels_)));
  workspace_.run(kernels_, cancel,
                 [&](Run& run) { shifts(run, missing.data(), static_cast<int64_t>(missing.size()), rows); });
  for (size_t i = 0; i < missing.size(); ++i) times_.add(missing[i], std::move(rows[i]));
}

void Unet::check(const UnetOptions& options) const {
  const auto require = [](bool holds, const std::string& message) {
    if (!holds) throw Error(ErrorCode::invalid_argument, message);
  };
  // Negated, so that what is not a number is refused, too.
  require(options.token_merging >= 0 && options.token_merging <= 0.75,
          "Expected tokenMerging between 0 and 0.75");
  require(options.depth >= 0 && options.depth <= std::max<int64_t>(most_depth(), 0),
          "Expected depth of deep features of at most " + std::to_string(most_depth()) + " but received " +
              std::to_string(options.depth));
  require(!options.deep || options.depth > 0, "Expected depth of at least 1 for deep features");
}

void Unet::predict(const float* latents, int64_t n, int64_t h, int64_t w, const float* timesteps,
                   const float* context, int64_t length, float* out, const CancelToken* cancel,
                   const UnetOptions& options) {
  if (n < 1 || h < 1 || w < 1 || (length < 1 && config_.has_attention())) {
    throw Error(ErrorCode::invalid_argument,
                "Expected latents and context of at least one element a dimension");
  }
  check(options);
  prepare_times(timesteps, n, cancel);
  PackedContext packed;
  if (config_.has_attention()) {
    prepare_context(context, n, length, cancel);
    packed = {contexts_.images(), 0, length};
  }
  Input input{latents, n, h, w, timesteps, packed, options};
  std::unique_lock<std::mutex> lock;
  const DeepFeatures::Origin origin{this, n, h, w, options.depth};
  if (options.deep) {
    lock = std::unique_lock<std::mutex>(options.deep->mutex);
    input.shallow = options.reuse && options.deep->has(origin);
  }
  workspace_.run(kernels_, cancel, [&](Run& run) { to_planar(run, forward(run, input), out); });
  if (options.deep) options.deep->finish(origin);
}

void Unet::trim() {
  workspace_.trim();
  contexts_.clear();
  times_.clear();
}

size_t Unet::working_bytes(int64_t n, int64_t h, int64_t w, int64_t length,
                           const UnetOptions& options) const {
  check(options);
  const int64_t most_timesteps = std::max(n, TimeTable::kMost);
  std::vector<std::vector<float>> no_rows;
  const std::vector<float> timesteps(static_cast<size_t>(most_timesteps));
  size_t bytes =
      Workspace::measure(kernels_, [&](Run& run) { shifts(run, timesteps.data(), most_timesteps, no_rows); });
  size_t kept = TimeTable::bytes(n, time_channels_);
  if (config_.has_attention()) {
    const std::vector<ContextTable::Fresh> all(static_cast<size_t>(n));
    bytes = std::max(bytes, Workspace::measure(kernels_, [&](Run& run) { pack(run, nullptr, length, all); }));
    kept += ContextTable::bytes(n, length * config_.context_width, packed_offsets(length).back());
  }
  DeepFeatures deep;
  Input input{nullptr, n, h, w, nullptr, {nullptr, 0, length}, options};
  input.options.deep = options.depth > 0 ? &deep : nullptr;
  bytes = std::max(bytes, Workspace::measure(kernels_, [&](Run& run) { forward(run, input); }));
  return kept + deep.bytes() + bytes;
}

}  // namespace nd
