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
  time_channels_ += config_.block_channels[l];
  layer.block = ResBlock(loader, prefix + ".resnets." + number, in, config_.block_channels[l],
                         config_.norm_groups, config_.norm_eps, config_.time_width());
  if (depth > 0) {
    TransformerOptions options;
    options.channels = config_.block_channels[l];
    options.heads = config_.heads[l];
    options.depth = depth;
    options.context_width = config_.context_width;
    options.norm_groups = config_.norm_groups;
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

Feature Unet::forward(Run& run, const Input& input) const {
  const Feature shifts(run, input.n, 1, 1, time_channels_);
  for (int64_t i = 0; i < input.n && !run.measuring(); ++i)
    std::copy_n(times_.find(input.timesteps[i]), shifts.c, shifts.data() + i * shifts.c);
  const auto time = [&](const Layer& layer) {
    return TimeShift{shifts.data() + layer.time_offset, shifts.c};
  };
  const std::vector<int64_t> offsets = packed_offsets(input.context.length);
  const auto attend = [&](const Layer& layer, Feature x) {
    PackedContext context = input.context;
    context.offset = offsets[static_cast<size_t>(layer.number)];
    for (const SpatialTransformer& attention : layer.attention)
      x = attention.forward(run, std::move(x), context);
    return x;
  };

  std::vector<Feature> skips;
  {
    const Feature latents = from_planar(run, input.latents, input.n, config_.in_channels, input.h, input.w);
    skips.push_back(conv_in_.forward(run, latents));
  }
  for (const Down& down : down_) {
    for (const Layer& layer : down.layers) {
      const TimeShift shift = time(layer);
      skips.push_back(attend(layer, layer.block.forward(run, skips.back(), &shift)));
    }
    for (const Conv2d& downsample : down.downsample) skips.push_back(downsample.forward(run, skips.back()));
  }

  // The first block's input is also the last skip, so it is read in place. (Without a middle block the way up
  // begins with the last skip twice.)
  Feature x;
  for (const Layer& layer : middle_) {
    const TimeShift shift = time(layer);
    x = attend(layer, x ? layer.block.forward(run, std::move(x), &shift)
                        : layer.block.forward(run, skips.back(), &shift));
  }

  for (const Up& up : up_) {
    for (const Layer& layer : up.layers) {
      Feature both = concat(run, x ? x : skips.back(), skips.back());
      x.release();
      skips.pop_back();
      const TimeShift shift = time(layer);
      x = attend(layer, layer.block.forward(run, std::move(both), &shift));
    }
    for (const Upsample& upsample : up.upsample) {
      x = upsample.forward(run, x, skips.back().h, skips.back().w);
    }
  }
  return conv_out_.forward(run, x, &norm_out_);
}

void Unet::predict(const float* latents, int64_t n, int64_t h, int64_t w, const float* timesteps,
                   const float* context, int64_t length, float* out, const CancelToken* cancel) {
  if (n < 1 || h < 1 || w < 1 || (length < 1 && config_.has_attention())) {
    throw Error(ErrorCode::invalid_argument,
                "Expected latents and context of at least one element a dimension");
  }
  prepare_times(timesteps, n, cancel);
  PackedContext packed;
  if (config_.has_attention()) {
    prepare_context(context, n, length, cancel);
    packed = {contexts_.images(), 0, length};
  }
  const Input input{latents, n, h, w, timesteps, packed};
  workspace_.run(kernels_, cancel, [&](Run& run) { to_planar(run, forward(run, input), out); });
}

void Unet::trim() {
  workspace_.trim();
  contexts_.clear();
  times_.clear();
}

size_t Unet::working_bytes(int64_t n, int64_t h, int64_t w, int64_t length) const {
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
  const Input input{nullptr, n, h, w, nullptr, {nullptr, 0, length}};
  return kept + std::max(bytes, Workspace::measure(kernels_, [&](Run& run) { forward(run, input); }));
}

}  // namespace nd
