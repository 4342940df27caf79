#include "unet/k_unet.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/require.h"
#include "nn/profile.h"

namespace nd {
namespace {

constexpr float kPi = 3.14159265358979f;

LinearOptions time_options(bool bias) {
  LinearOptions options;
  options.role = Role::time_embedding;
  options.bias = bias;
  return options;
}

}  // namespace

KUnet::KUnet(const KUnetConfig& config, Loader& loader)
    : config_(config), backend_(loader.backend()), contexts_(backend_.memory()), workspace_(backend_) {
  config.check();
  const int64_t width = config.time_width;
  places_.time_width = width;
  frequencies_ = loader.vector("time_proj.weight", width / 2);
  condition_ = loader.linear("time_embedding.cond_proj", config.condition_width, width, time_options(false));
  time1_ = loader.linear("time_embedding.linear_1", width, width, time_options(true));
  time2_ = loader.linear("time_embedding.linear_2", width, width, time_options(true));
  Conv2dOptions outermost = Conv2dOptions::pointwise();
  outermost.role = Role::input_output;
  Conv2dOptions first = outermost;
  first.feeds_group_norm = true;
  conv_in_ = loader.conv2d("conv_in", config.in_channels, config.block_channels[0], first);
  load_encoder(loader);
  load_decoder(loader);
  conv_out_ = loader.conv2d("conv_out", config.block_channels[0], config.out_channels, outermost);
  // Layers no longer move.
  for (const std::vector<Level>* levels : {&encoder_, &decoder_})
    for (const Level& level : *levels)
      for (const Layer& layer : level) {
        norms_.insert(norms_.end(), {&layer.block.norm1(), &layer.block.norm2()});
        if (!layer.attention) continue;
        attentions_.push_back(layer.attention.get());
        if (layer.attention->attends_to_image()) norms_.push_back(&layer.attention->norm1());
        norms_.push_back(&layer.attention->norm2());
      }
}

KUnet::Level KUnet::load_level(Loader& loader, const std::string& prefix,
                               const std::vector<KResBlockOptions>& blocks, bool attends,
                               bool attends_to_image) {
  Level level;
  size_t attention = 0;
  for (const std::vector<Level>* levels : {&encoder_, &decoder_})
    for (const Level& other : *levels)
      for (const Layer& layer : other) attention += layer.attention ? 1 : 0;
  for (size_t i = 0; i < blocks.size(); ++i) {
    const std::string number = std::to_string(i);
    KResBlock block(loader, prefix + ".resnets." + number, blocks[i], places_);
    std::unique_ptr<KAttention> attended;
    if (attends) {
      KAttentionOptions options;
      options.channels = blocks[i].out;
      options.head_width = config_.head_width;
      options.context_width = config_.context_width;
      options.groups = blocks[i].out / config_.group_width;
      options.attends_to_image = attends_to_image;
      attended = std::make_unique<KAttention>(loader, prefix + ".attentions." + number, options, places_);
    }
    level.push_back({std::move(block), std::move(attended), attention});
    attention += attends ? 1 : 0;
  }
  return level;
}

KResBlockOptions KUnet::block_options(int64_t level) const {
  KResBlockOptions options;
  options.norm_eps = config_.norm_eps;
  options.convolutions = convolution_role(level, config_.levels());
  return options;
}

void KUnet::load_encoder(Loader& loader) {
  int64_t channels = config_.block_channels[0];
  for (int64_t level = 0; level < config_.levels(); ++level) {
    const size_t l = static_cast<size_t>(level);
    std::vector<KResBlockOptions> blocks;
    for (int64_t i = 0; i < config_.layers_per_block[l]; ++i) {
      KResBlockOptions block = block_options(level);
      block.in = channels;
      channels = block.middle = block.out = config_.block_channels[l];
      block.in_groups = block.in / config_.group_width;
      block.middle_groups = block.middle / config_.group_width;
      blocks.push_back(block);
    }
    encoder_.push_back(load_level(loader, "down_blocks." + std::to_string(level), blocks,
                                  config_.attends[l] != 0, level + 1 == config_.levels()));
  }
}

/// The last block of each level already has the channels of the level above.
void KUnet::load_decoder(Loader& loader) {
  for (int64_t i = 0; i < config_.levels(); ++i) {
    const int64_t level = config_.levels() - 1 - i;
    const size_t l = static_cast<size_t>(level);
    const int64_t channels = config_.block_channels[l], layers = config_.layers_per_block[l];
    const bool attends = config_.attends[l] != 0;
    std::vector<KResBlockOptions> blocks;
    for (int64_t j = 0; j < layers; ++j) {
      KResBlockOptions block = block_options(level);
      // All but the first level begin with a skip connection beside what comes from below.
      block.in = j == 0 && i > 0 ? 2 * channels : channels;
      block.out = j + 1 == layers ? config_.above(level) : channels;
      block.middle = attends ? channels : block.out;
      block.in_groups = block.in / config_.group_width;
      block.middle_groups = channels / config_.group_width;
      blocks.push_back(block);
    }
    decoder_.push_back(load_level(loader, "up_blocks." + std::to_string(i), blocks, attends, i == 0));
  }
}

void KUnet::check(const UnetInput& input) const {
  const int64_t multiple = config_.side_multiple();
  require(input.n >= 1 && input.h >= 1 && input.w >= 1 && input.conditioning.context_length >= 1,
          "Expected latents and context of at least one element in each dimension");
  require(input.h % multiple == 0 && input.w % multiple == 0,
          "Expected latents of this UNet to have sides that are multiples of " + std::to_string(multiple) +
              " but received " + std::to_string(input.w) + "×" + std::to_string(input.h));
  require(input.conditioning.time_condition != nullptr, "Expected a timestepCond for this UNet");
}

KUnet::Keys KUnet::keys(const Conditioning& conditioning, int64_t n) const {
  require(conditioning.time_condition != nullptr, "Expected a timestepCond for this UNet");
  Keys keys;
  keys.n = n;
  for (int64_t i = 0; i < n; ++i) {
    const float* condition = conditioning.time_condition + i * config_.condition_width;
    keys.values.push_back(conditioning.timesteps[i]);
    keys.values.insert(keys.values.end(), condition, condition + config_.condition_width);
  }
  return keys;
}

/// Fourier features of the timestep (Tancik et al. 2020) and the condition, through two linear layers with
/// GELU after each: [n][1][1][time_width]
Tensor KUnet::embed_time(ForwardContext& ctx, const Keys& keys) const {
  const int64_t width = config_.time_width, half = width / 2;
  const Tensor waves(ctx, keys.n, 1, 1, width), conditions(ctx, keys.n, 1, 1, config_.condition_width);
  for (int64_t i = 0; i < keys.n && !ctx.measuring(); ++i) {
    const float* key = keys.values.data() + i * key_floats();
    std::vector<float> row(static_cast<size_t>(width));
    float* sines = row.data() + (config_.flip_sin_to_cos ? half : 0);
    float* cosines = row.data() + (config_.flip_sin_to_cos ? 0 : half);
    for (int64_t j = 0; j < half; ++j) {
      // In PyTorch's order.
      const float angle = key[0] * frequencies_[static_cast<size_t>(j)] * 2 * kPi;
      sines[j] = std::sin(angle);
      cosines[j] = std::cos(angle);
    }
    backend_.put(ctx, row.data(), waves, i, 1);
    backend_.put(ctx, key + 1, conditions, i, 1);
  }
  Epilogue sum, gelu;
  sum.residual = &waves;
  gelu.activation = Activation::gelu;
  const Tensor both = condition_->forward(ctx, conditions, sum);
  const Tensor hidden = time1_->forward(ctx, both, gelu);
  return time2_->forward(ctx, hidden, gelu);
}

void KUnet::compute_modulations(ForwardContext& ctx, const Keys& keys,
                                std::vector<std::vector<uint8_t>>& rows) const {
  const size_t element = backend_.element_bytes();
  const Tensor time = embed_time(ctx, keys);
  for (const AdaptiveGroupNorm* norm : norms_) {
    const Tensor projected = norm->project(ctx, time);
    if (ctx.measuring()) continue;
    const size_t bytes = static_cast<size_t>(projected.c) * element;
    std::vector<uint8_t> elements(rows.size() * bytes);
    backend_.get_elements(ctx, projected, elements.data());
    for (size_t i = 0; i < rows.size(); ++i)
      std::copy_n(elements.data() + i * bytes, bytes,
                  rows[i].data() + static_cast<size_t>(norm->first_channel()) * element);
  }
}

void KUnet::cache_modulations(const Keys& keys, const CancelToken* cancel) {
  Keys missing;
  missing.values = timesteps_.missing(keys.values.data(), keys.n, key_floats());
  missing.n = static_cast<int64_t>(missing.values.size()) / key_floats();
  if (missing.n == 0) return;
  std::vector<std::vector<uint8_t>> rows(static_cast<size_t>(missing.n),
                                         std::vector<uint8_t>(modulation_bytes()));
  workspace_.run(cancel, [&](ForwardContext& ctx) { compute_modulations(ctx, missing, rows); });
  for (int64_t i = 0; i < missing.n; ++i)
    timesteps_.add(missing.values.data() + i * key_floats(), std::move(rows[static_cast<size_t>(i)]));
}

/// Where each attention's keys and values begin among those of one context; the last element is their sum.
std::vector<size_t> KUnet::packed_offsets(int64_t length) const {
  std::vector<size_t> offsets = {0};
  for (const KAttention* attention : attentions_)
    offsets.push_back(offsets.back() + attention->packed_bytes(length));
  return offsets;
}

void KUnet::pack(ForwardContext& ctx, const float* contexts, int64_t length,
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
  for (size_t i = 0; i < attentions_.size(); ++i)
    attentions_[i]->pack(ctx, context, images.data(), offsets[i]);
}

PackedContext KUnet::cache_context(const Conditioning& conditioning, int64_t n, const CancelToken* cancel) {
  const int64_t length = conditioning.context_length;
  const auto fresh =
      contexts_.place(conditioning.context, n, length * config_.context_width, packed_offsets(length).back());
  if (!fresh.empty())
    workspace_.run(cancel, [&](ForwardContext& ctx) { pack(ctx, conditioning.context, length, fresh); });
  contexts_.settle();
  return {contexts_.images(), 0, length};
}

Tensor KUnet::forward(ForwardContext& ctx, const UnetInput& input, const Keys& keys,
                      const PackedContext& context, const uint8_t* staged_modulations) const {
  const Tensor modulations(ctx, input.n, 1, 1, places_.channels);
  if (!ctx.measuring() && staged_modulations)
    backend_.put_elements(ctx, staged_modulations, modulations, 0, input.n);
  for (int64_t i = 0; i < input.n && !ctx.measuring() && !staged_modulations; ++i)
    backend_.put_elements(ctx, timesteps_.find(keys.values.data() + i * key_floats()), modulations, i, 1);
  const std::vector<size_t> offsets = packed_offsets(context.length);
  const auto attend = [&](const Layer& layer, Tensor x) {
    if (!layer.attention) return x;
    PackedContext own = context;
    own.offset = offsets[layer.number];
    return layer.attention->forward(ctx, std::move(x), modulations, own);
  };
  // input: a tensor, or a joined one.
  const auto run = [&](const Level& level, auto input) {
    Tensor x = attend(level.front(), level.front().block.forward(ctx, std::move(input), modulations));
    for (size_t i = 1; i < level.size(); ++i)
      x = attend(level[i], level[i].block.forward(ctx, std::move(x), modulations));
    return x;
  };
  Tensor x;
  {
    const Tensor latents =
        backend_.from_planar(ctx, input.latents, input.n, config_.in_channels, input.h, input.w);
    x = conv_in_->forward(ctx, latents);
  }
  std::vector<Tensor> skips;
  for (size_t l = 0; l < encoder_.size(); ++l) {
    x = run(encoder_[l], std::move(x));
    if (l + 1 == encoder_.size()) break;
    skips.push_back(std::move(x));
    x = backend_.resample(ctx, skips.back(), Resampling::half);
  }
  for (size_t i = 0; i < decoder_.size(); ++i) {
    if (i == 0) {
      x = run(decoder_[i], std::move(x));
      continue;
    }
    x = backend_.resample(ctx, x, Resampling::twice);
    JoinedTensor both(std::move(x), std::move(skips.back()));
    skips.pop_back();
    x = run(decoder_[i], std::move(both));
  }
  return conv_out_->forward(ctx, x);
}

void KUnet::predict(const UnetInput& input, float* out, const CancelToken* cancel) {
  check(input);
  const Keys keys = this->keys(input.conditioning, input.n);
  cache_modulations(keys, cancel);
  const PackedContext context = cache_context(input.conditioning, input.n, cancel);
  if (backend_.records()) return predict_repeated(input, keys, context, out, cancel);
  workspace_.run(cancel, [&](ForwardContext& ctx) {
    backend_.to_planar(ctx, forward(ctx, input, keys, context, nullptr), out);
  });
}

/// As Unet::predict_repeated().
void KUnet::predict_repeated(const UnetInput& input, const Keys& keys, const PackedContext& context,
                             float* out, const CancelToken* cancel) {
  const int64_t pixels = input.n * input.h * input.w, latent_floats = pixels * config_.in_channels,
                out_floats = pixels * config_.out_channels;
  staged_.make_room(latent_floats, static_cast<size_t>(input.n) * modulation_bytes(), out_floats);
  std::copy_n(input.latents, latent_floats, staged_.latents.data());
  for (int64_t i = 0; i < input.n; ++i)
    std::copy_n(timesteps_.find(keys.values.data() + i * key_floats()), modulation_bytes(),
                staged_.shifts.data() + static_cast<size_t>(i) * modulation_bytes());
  UnetInput staged = input;
  staged.latents = staged_.latents.data();
  const auto key = [&] { return key_of(staged, context, staged_); };
  workspace_.run_repeated(key, cancel, nullptr, [&](ForwardContext& ctx) {
    backend_.to_planar(ctx, forward(ctx, staged, keys, context, staged_.shifts.data()), staged_.out.data());
  });
  std::copy_n(staged_.out.data(), out_floats, out);
}

void KUnet::prepare(const Conditioning& conditioning, int64_t n, const CancelToken* cancel) {
  cache_modulations(keys(conditioning, std::min(n, TimestepCache::kMaxEntries)), cancel);
}

size_t KUnet::working_bytes(int64_t n, int64_t h, int64_t w, int64_t length) const {
  UnetInput input;
  input.n = n, input.h = h, input.w = w;
  Keys keys;
  keys.n = std::max(n, TimestepCache::kMaxEntries);
  PackedContext context;
  context.length = length;
  const std::vector<ContextCache::Fresh> all(static_cast<size_t>(n));
  std::vector<std::vector<uint8_t>> no_rows;
  size_t bytes = 0;
  {
    const Profile::Counting uncounted(nullptr);  // not the work of each prediction
    bytes = std::max(
        Workspace::measure(backend_, [&](ForwardContext& ctx) { compute_modulations(ctx, keys, no_rows); }),
        Workspace::measure(backend_, [&](ForwardContext& ctx) { pack(ctx, nullptr, length, all); }));
  }
  bytes = std::max(bytes, Workspace::measure(backend_, [&](ForwardContext& ctx) {
                     forward(ctx, input, keys, context, nullptr);
                   }));
  return bytes + TimestepCache::bytes(n, key_floats(), modulation_bytes()) +
         ContextCache::bytes(n, length * config_.context_width, packed_offsets(length).back());
}

void KUnet::trim() {
  workspace_.trim();
  contexts_.clear();
  if (!backend_.memory().reuses_blocks()) timesteps_.clear();  // as UnetEncoder::clear_caches()
}

}  // namespace nd
