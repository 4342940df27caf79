#include "unet/encoder.h"

#include <algorithm>

#include "core/error.h"
#include "nn/profile.h"
#include "unet/kept_tensors.h"

namespace nd {

UnetEncoder::UnetEncoder(const UnetConfig& config, Loader& loader)
    : config_(config), backend_(loader.backend()), contexts_(backend_.memory()) {
  config.check();
  time_ = TimestepEmbedding(loader, config);
  Conv2dOptions outermost;
  outermost.role = Role::input_output;
  outermost.feeds_group_norm = true;
  conv_in_ = loader.conv2d("conv_in", config.in_channels, config.block_channels[0], outermost);
  load_levels(loader);
  load_middle(loader);
}

const UnetLayer& UnetEncoder::add_layer(Loader& loader, const std::string& prefix, int64_t index, int64_t in,
                                        int64_t level, int64_t depth, bool only_cross_attention) {
  const size_t l = static_cast<size_t>(level);
  const std::string number = std::to_string(index);
  layers_.push_back(std::make_unique<UnetLayer>());
  UnetLayer& layer = *layers_.back();
  layer.number = static_cast<int64_t>(layers_.size()) - 1;
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
  layer.first_attention = attentions_;
  attentions_ += static_cast<size_t>(depth);
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

void UnetEncoder::load_levels(Loader& loader) {
  int64_t channels = config_.block_channels[0];
  for (int64_t level = 0; level < config_.levels(); ++level) {
    const size_t l = static_cast<size_t>(level);
    const std::string prefix = "down_blocks." + std::to_string(level);
    Level result;
    for (int64_t i = 0; i < config_.layers_per_block[l]; ++i) {
      result.layers.push_back(&add_layer(loader, prefix, i, channels, level,
                                         config_.down_transformer_depth[l].of(i), config_.only_cross(level)));
      channels = config_.block_channels[l];
    }
    if (level + 1 < config_.levels()) {
      Conv2dOptions halve;
      halve.stride = 2;
      halve.feeds_group_norm = true;
      result.downsample = loader.conv2d(prefix + ".downsamplers.0.conv", channels, channels, halve);
    }
    levels_.push_back(std::move(result));
  }
}

void UnetEncoder::load_middle(Loader& loader) {
  if (config_.mid_transformer_depth < 0) return;
  const int64_t level = config_.levels() - 1, channels = config_.block_channels.back();
  middle_.push_back(
      &add_layer(loader, "mid_block", 0, channels, level, config_.mid_transformer_depth, false));
  // Without attention diffusers builds the middle of one residual block, not two in a row.
  if (config_.mid_transformer_depth > 0)
    middle_.push_back(&add_layer(loader, "mid_block", 1, channels, level, 0, false));
}

std::vector<size_t> UnetEncoder::packed_offsets(int64_t length) const {
  std::vector<size_t> offsets = {0};
  for (const auto& layer : layers_)
    offsets.push_back(offsets.back() + (layer->transformer ? layer->transformer->packed_bytes(length) : 0));
  return offsets;
}

void UnetEncoder::pack(ForwardContext& ctx, const float* contexts, int64_t length,
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
  for (const auto& layer : layers_)
    if (layer->transformer)
      layer->transformer->pack(ctx, context, images.data(), offsets[static_cast<size_t>(layer->number)]);
}

PackedContext UnetEncoder::cache_context(Workspace& workspace, const Conditioning& conditioning, int64_t n,
                                         const CancelToken* cancel) {
  if (!config_.has_attention()) return {};
  const int64_t length = conditioning.context_length;
  const auto fresh =
      contexts_.place(conditioning.context, n, length * config_.context_width, packed_offsets(length).back());
  if (!fresh.empty())
    workspace.run(cancel, [&](ForwardContext& ctx) { pack(ctx, conditioning.context, length, fresh); });
  contexts_.settle();
  return {contexts_.images(), 0, length};
}

void UnetEncoder::compute_shifts(ForwardContext& ctx, const TimestepKeys& keys,
                                 std::vector<std::vector<uint8_t>>& rows) const {
  const size_t element = backend_.element_bytes();
  const Tensor time = time_.forward(ctx, keys);
  for (const auto& layer : layers_) {
    const Tensor shift = layer->block.project_time(ctx, time);
    if (ctx.measuring()) continue;
    const size_t bytes = static_cast<size_t>(shift.c) * element;
    std::vector<uint8_t> elements(rows.size() * bytes);
    backend_.get_elements(ctx, shift, elements.data());
    for (size_t i = 0; i < rows.size(); ++i)
      std::copy_n(elements.data() + i * bytes, bytes,
                  rows[i].data() + static_cast<size_t>(layer->shift_offset) * element);
  }
}

void UnetEncoder::cache_shifts(Workspace& workspace, const TimestepKeys& keys, const CancelToken* cancel) {
  TimestepKeys missing = keys;
  missing.values = timesteps_.missing(keys.values.data(), keys.n, keys.floats);
  missing.n = static_cast<int64_t>(missing.values.size()) / keys.floats;
  if (missing.n == 0) return;
  std::vector<std::vector<uint8_t>> rows(static_cast<size_t>(missing.n), std::vector<uint8_t>(shift_bytes()));
  workspace.run(cancel, [&](ForwardContext& ctx) { compute_shifts(ctx, missing, rows); });
  for (int64_t i = 0; i < missing.n; ++i)
    timesteps_.add(missing.row(i), std::move(rows[static_cast<size_t>(i)]));
}

void UnetEncoder::clear_caches() {
  contexts_.clear();
  // On the host they are small, and on a GPU each layer's come by a copy that the next one waits for.
  if (!backend_.memory().reuses_blocks()) timesteps_.clear();
}

size_t UnetEncoder::cache_bytes(int64_t n, int64_t length) const {
  size_t bytes = TimestepCache::bytes(n, time_.max_key_floats(), shift_bytes());
  if (config_.has_attention())
    bytes += ContextCache::bytes(n, length * config_.context_width, packed_offsets(length).back());
  return bytes;
}

size_t UnetEncoder::caching_bytes(int64_t n, int64_t length) const {
  const Profile::Counting uncounted(nullptr);  // not the work of each prediction
  std::vector<std::vector<uint8_t>> no_rows;
  const TimestepKeys keys = time_.no_keys(std::max(n, TimestepCache::kMaxEntries));
  const size_t bytes =
      Workspace::measure(backend_, [&](ForwardContext& ctx) { compute_shifts(ctx, keys, no_rows); });
  if (!config_.has_attention()) return bytes;
  const std::vector<ContextCache::Fresh> all(static_cast<size_t>(n));
  return std::max(
      bytes, Workspace::measure(backend_, [&](ForwardContext& ctx) { pack(ctx, nullptr, length, all); }));
}

Tensor UnetEncoder::shifts(ForwardContext& ctx, int64_t n, const TimestepKeys& keys,
                           const uint8_t* elements) const {
  Tensor shifts(ctx, n, 1, 1, shift_channels_);
  if (ctx.measuring()) return shifts;
  if (elements) backend_.put_elements(ctx, elements, shifts, 0, n);
  for (int64_t i = 0; i < n && !elements; ++i)
    backend_.put_elements(ctx, timesteps_.find(keys.row(i)), shifts, i, 1);
  return shifts;
}

UnetPass UnetEncoder::pass(const PackedContext& context, const Tensor& shifts, double token_merging) const {
  UnetPass pass;
  pass.token_merging = token_merging;
  pass.context = context;
  pass.context_offsets = packed_offsets(context.length);
  pass.shifts = &shifts;
  return pass;
}

Tensor UnetEncoder::attend(ForwardContext& ctx, const UnetPass& pass, const UnetLayer& layer,
                           Tensor x) const {
  if (!layer.transformer) return x;
  PackedContext context = pass.context;
  context.offset = pass.context_offsets[static_cast<size_t>(layer.number)];
  const AttendedImages images{pass.images, layer.first_attention, attentions_};
  return layer.transformer->forward(ctx, std::move(x), context, images, layer.merges ? pass.token_merging : 0,
                                    {pass.inputs, layer.first_attention});
}

UnetInput UnetEncoder::stage(const UnetInput& input, const TimestepKeys& keys, int64_t out_floats,
                             StagedNumbers& staged) const {
  const int64_t size = input.resident ? 0 : input.n * input.h * input.w * config_.in_channels;
  staged.make_room(size, static_cast<size_t>(input.n) * shift_bytes(), out_floats);
  std::copy_n(input.latents, size, staged.latents.data());
  for (int64_t i = 0; i < input.n; ++i)
    std::copy_n(timesteps_.find(keys.row(i)), shift_bytes(),
                staged.shifts.data() + static_cast<size_t>(i) * shift_bytes());
  UnetInput result = input;
  result.latents = staged.latents.data();
  return result;
}

Tensor UnetEncoder::latents(ForwardContext& ctx, const UnetInput& input) const {
  if (input.resident)
    return backend_.from_resident(ctx, *input.resident, {input.h, input.w, config_.in_channels}, input.n);
  return backend_.from_planar(ctx, input.latents, input.n, config_.in_channels, input.h, input.w);
}

std::vector<Tensor> UnetEncoder::encode(ForwardContext& ctx, const UnetPass& pass, const UnetInput& input,
                                        Tensor latents, size_t wanted, const Tensor* hint,
                                        const Tensor* hint_bias) const {
  std::vector<Tensor> skips;
  Epilogue sum;
  sum.residual = hint;
  sum.image_bias = hint_bias;
  skips.push_back(conv_in_->forward(ctx, latents, nullptr, sum));
  latents.release();
  size_t end = skips.size();
  for (size_t l = 0; l < levels_.size(); ++l) {
    const Level& level = levels_[l];
    for (const UnetLayer* layer : level.layers)
      if (skips.size() < wanted) skips.push_back(forward_layer(ctx, pass, *layer, skips.back()));
    end += level.layers.size();
    // A part of a level has not computed yet what its features are added to.
    if (level.attends() && skips.size() == end) add_features(ctx, input, l, skips.back());
    if (level.downsample && skips.size() < wanted)
      skips.push_back(level.downsample->forward(ctx, skips.back()));
    end += level.downsample ? 1 : 0;
    if (!level.attends() && skips.size() == end) add_features(ctx, input, l, skips.back());
  }
  return skips;
}

bool UnetEncoder::Level::attends() const {
  return std::any_of(layers.begin(), layers.end(),
                     [](const UnetLayer* layer) { return !!layer->transformer; });
}

void UnetEncoder::add_features(ForwardContext& ctx, const UnetInput& input, size_t place,
                               const Tensor& x) const {
  if (ctx.measuring()) return;
  for (const AddedFeatures& features : input.conditioning.features) {
    if (place >= features.kept->count()) continue;
    const Tensor feature = features.kept->view(place);
    if (feature.h != x.h || feature.w != x.w || feature.c != x.c)
      throw Error(ErrorCode::invalid_argument, "Expected features that were computed for these latents");
    for (int64_t i = features.first; i < features.first + features.count; ++i)
      backend_.add_rows(ctx, feature, i % feature.n * x.pixels(), x, i * x.pixels(), x.pixels(),
                        features.scales[place], false);
  }
}

Tensor UnetEncoder::middle(ForwardContext& ctx, const UnetPass& pass, const Tensor& last) const {
  Tensor x;
  // The first block's input is also the last skip connection, so it is read in place.
  for (const UnetLayer* layer : middle_)
    x = x ? forward_layer(ctx, pass, *layer, std::move(x)) : forward_layer(ctx, pass, *layer, last);
  return x;
}

}  // namespace nd
