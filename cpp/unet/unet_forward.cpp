// One forward pass of the UNet, whole or only its shallow layers.
#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <utility>

#include "core/error.h"
#include "unet/unet.h"

namespace nd {

/// What all layers of a forward need to know.
struct Unet::Pass {
  const UnetInput& input;
  const UnetOptions& options;
  const TimestepKeys& keys;
  bool shallow = false;     // options.deep has what the layers below would compute
  PackedContext context{};  // of the first layer
  std::vector<size_t> context_offsets{};
  const float* shift_values = nullptr;  // [n][shift_channels_] on the host; null: those of the cache
  const Tensor* shifts = nullptr;       // [n][1][1][shift_channels_]
};

template <class X>
Tensor Unet::forward_layer(ForwardContext& ctx, const Pass& pass, const Layer& layer, X&& x) const {
  const TimeShift shift{pass.shifts, layer.shift_offset};
  Tensor out = layer.block.forward(ctx, std::forward<X>(x), &shift);
  if (!layer.transformer) return out;
  PackedContext context = pass.context;
  context.offset = pass.context_offsets[static_cast<size_t>(layer.number)];
  const double merging = layer.merges ? pass.options.token_merging : 0;
  return layer.transformer->forward(ctx, std::move(out), context, merging);
}

/// The first `wanted` skip connections, in the encoder's order.
std::vector<Tensor> Unet::encode(ForwardContext& ctx, const Pass& pass, size_t wanted) const {
  const UnetInput& input = pass.input;
  std::vector<Tensor> skips;
  {
    const Tensor latents =
        backend_.from_planar(ctx, input.latents, input.n, config_.in_channels, input.h, input.w);
    skips.push_back(conv_in_->forward(ctx, latents));
  }
  for (const EncoderLevel& level : encoder_) {
    for (const Layer& layer : level.layers)
      if (skips.size() < wanted) skips.push_back(forward_layer(ctx, pass, layer, skips.back()));
    if (level.downsample && skips.size() < wanted)
      skips.push_back(level.downsample->forward(ctx, skips.back()));
  }
  return skips;
}

/// The decoder from x on (where it is empty, there is no middle block: from the last skip connection). A
/// shallow pass leaves out all but the last layers and takes what they would have computed from the deep
/// features.
Tensor Unet::decode(ForwardContext& ctx, const Pass& pass, Tensor x, std::vector<Tensor> skips) const {
  const UnetOptions& options = pass.options;
  int64_t left = decoder_layers_;
  for (const DecoderLevel& level : decoder_) {
    for (const Layer& layer : level.layers) {
      if (options.deep && left == options.depth) {
        if (pass.shallow)
          x = options.deep->view();
        else
          options.deep->keep(ctx, x);
      }
      if (!pass.shallow || left <= options.depth) {
        Tensor both = backend_.concat(ctx, x ? x : skips.back(), skips.back());
        x.release();
        skips.pop_back();
        x = forward_layer(ctx, pass, layer, std::move(both));
      }
      --left;
    }
    if (level.upsample && x) x = level.upsample->upsample(ctx, x, skips.back().h, skips.back().w);
  }
  return x;
}

Tensor Unet::forward(ForwardContext& ctx, const Pass& given) const {
  const UnetInput& input = given.input;
  const Tensor shifts(ctx, input.n, 1, 1, shift_channels_);
  for (int64_t i = 0; i < input.n && !ctx.measuring(); ++i)
    backend_.put(
        ctx,
        given.shift_values ? given.shift_values + i * shift_channels_ : timesteps_.find(given.keys.row(i)),
        shifts, i, 1);
  Pass pass = given;
  pass.shifts = &shifts;
  pass.context_offsets = packed_offsets(pass.context.length);

  const size_t wanted =
      pass.shallow ? static_cast<size_t>(pass.options.depth) : std::numeric_limits<size_t>::max();
  std::vector<Tensor> skips = encode(ctx, pass, wanted);
  Tensor x;
  if (!pass.shallow) {
    // The first block's input is also the last skip connection, so it is read in place.
    for (const Layer& layer : middle_)
      x = x ? forward_layer(ctx, pass, layer, std::move(x)) : forward_layer(ctx, pass, layer, skips.back());
  }
  x = decode(ctx, pass, std::move(x), std::move(skips));
  return conv_out_->forward(ctx, x, norm_out_.get());
}

void Unet::predict(const UnetInput& input, float* out, const CancelToken* cancel,
                   const UnetOptions& options) {
  const Conditioning& conditioning = input.conditioning;
  if (input.n < 1 || input.h < 1 || input.w < 1 ||
      (conditioning.context_length < 1 && config_.has_attention())) {
    throw Error(ErrorCode::invalid_argument,
                "Expected latents and context of at least one element in each dimension");
  }
  check(options);
  const TimestepKeys keys = time_.keys(conditioning, input.n);
  cache_shifts(keys, cancel);
  Pass pass{input, options, keys};
  if (config_.has_attention()) {
    cache_context(conditioning, input.n, cancel);
    pass.context = {contexts_.images(), 0, conditioning.context_length};
  }
  // Deep features allocate their own memory in the middle of a forward.
  if (backend_.records() && !options.deep) return predict_repeated(pass, out, cancel);
  std::unique_lock<std::mutex> lock;
  const DeepFeatures::Origin origin{weights_id_, input.n, input.h, input.w, options.depth};
  if (options.deep) {
    lock = std::unique_lock<std::mutex>(options.deep->mutex);
    pass.shallow = options.reuse && options.deep->has(origin);
  }
  workspace_.run(cancel, [&](ForwardContext& ctx) { backend_.to_planar(ctx, forward(ctx, pass), out); });
  if (options.deep) options.deep->finish(origin);
}

void Unet::Staged::make_room(int64_t latent_floats, int64_t shift_floats, int64_t out_floats) {
  const auto grow = [&](std::vector<float>& values, int64_t size) {
    if (static_cast<size_t>(size) <= values.size()) return;
    values.resize(static_cast<size_t>(size));
    ++place;
  };
  grow(latents, latent_floats);
  grow(shifts, shift_floats);
  grow(out, out_floats);
}

/// A denoising run calls this once a step with other numbers: they are staged at addresses that stay.
void Unet::predict_repeated(const Pass& given, float* out, const CancelToken* cancel) {
  const UnetInput& input = given.input;
  const int64_t pixels = input.n * input.h * input.w;
  staged_.make_room(pixels * config_.in_channels, input.n * shift_channels_, pixels * config_.out_channels);
  std::copy_n(input.latents, pixels * config_.in_channels, staged_.latents.data());
  for (int64_t i = 0; i < input.n; ++i)
    std::copy_n(timesteps_.find(given.keys.row(i)), shift_channels_,
                staged_.shifts.data() + i * shift_channels_);
  UnetInput staged = input;
  staged.latents = staged_.latents.data();
  Pass pass{staged, given.options, given.keys};
  pass.context = given.context;
  pass.shift_values = staged_.shifts.data();

  // Everything that the kernels and their arguments depend on. What is new in a forward belongs here.
  const auto number = [](auto value) { return static_cast<uint64_t>(value); };
  std::vector<uint64_t> key = {number(input.n),
                               number(input.h),
                               number(input.w),
                               number(pass.context.length),
                               number(std::llround(pass.options.token_merging * 1e9)),
                               staged_.place};
  for (int64_t i = 0; i < input.n && pass.context.images; ++i) key.push_back(pass.context.images[i].value);
  workspace_.run_repeated(key, cancel, [&](ForwardContext& ctx) {
    backend_.to_planar(ctx, forward(ctx, pass), staged_.out.data());
  });
  std::copy_n(staged_.out.data(), pixels * config_.out_channels, out);
}

size_t Unet::working_bytes(int64_t n, int64_t h, int64_t w, int64_t length,
                           const UnetOptions& options) const {
  check(options);
  std::vector<std::vector<float>> no_rows;
  const TimestepKeys keys = time_.no_keys(std::max(n, TimestepCache::kMaxEntries));
  size_t bytes = Workspace::measure(backend_, [&](ForwardContext& ctx) { shifts(ctx, keys, no_rows); });
  size_t kept = TimestepCache::bytes(n, time_.max_key_floats(), shift_channels_);
  if (config_.has_attention()) {
    const std::vector<ContextCache::Fresh> all(static_cast<size_t>(n));
    bytes = std::max(
        bytes, Workspace::measure(backend_, [&](ForwardContext& ctx) { pack(ctx, nullptr, length, all); }));
    kept += ContextCache::bytes(n, length * config_.context_width, packed_offsets(length).back());
  }
  DeepFeatures deep;
  UnetInput input;
  input.n = n, input.h = h, input.w = w;
  UnetOptions measured = options;
  measured.deep = options.depth > 0 ? &deep : nullptr;
  Pass pass{input, measured, keys};
  pass.context.length = length;
  bytes = std::max(bytes, Workspace::measure(backend_, [&](ForwardContext& ctx) { forward(ctx, pass); }));
  return kept + deep.bytes() + bytes;
}

}  // namespace nd
