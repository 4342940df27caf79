// One forward pass of the UNet, whole or only its shallow layers.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <mutex>
#include <set>
#include <utility>

#include "core/error.h"
#include "unet/kept_tensors.h"
#include "unet/unet.h"

namespace nd {

namespace {

/// Locks all that is kept in the engine, in one order: calls may have been given the same tensors.
std::vector<std::unique_lock<std::mutex>> lock_kept(const Conditioning& conditioning) {
  std::set<const KeptTensors*, std::less<>> kept;
  if (conditioning.residuals) kept.insert(conditioning.residuals);
  if (conditioning.images)
    for (const ImagePrompt& prompt : *conditioning.images)
      if (prompt.kept) kept.insert(prompt.kept);
  for (const AddedFeatures& features : conditioning.features) kept.insert(features.kept);
  if (conditioning.inputs)
    for (const ChangedInputs& one : *conditioning.inputs) kept.insert(one.kept);
  std::vector<std::unique_lock<std::mutex>> locks;
  for (const KeptTensors* one : kept) locks.emplace_back(one->mutex);
  return locks;
}

/// Error invalid_argument: features of another device, or without a scale or row for each.
void check_features(const Conditioning& conditioning, const Memory& memory, int64_t n) {
  for (const AddedFeatures& features : conditioning.features)
    if (!features.kept->in(memory) || features.scales.size() != features.kept->count() ||
        features.first < 0 || features.count < 0 || features.first + features.count > n)
      throw Error(ErrorCode::invalid_argument, "Expected features of a T2I-Adapter with a scale for each");
}

}  // namespace

/// What is fixed before a forward begins.
struct Unet::Pass {
  const UnetInput& input;
  const UnetOptions& options;
  const TimestepKeys& keys;
  bool shallow = false;  // options.deep has what the layers below would compute
  PackedContext context{};
  const uint8_t* shifts = nullptr;  // elements [n][shift channels] on the host; null: those of the cache
};

/// The decoder from x on (where it is empty, there is no middle block: from the last skip connection). A
/// shallow pass leaves out all but the last layers and takes what they would have computed from the deep
/// features.
Tensor Unet::decode(ForwardContext& ctx, const Pass& given, const UnetPass& pass, Tensor x,
                    std::vector<Tensor> skips) const {
  const UnetOptions& options = given.options;
  int64_t left = decoder_layers_;
  for (const DecoderLevel& level : decoder_) {
    for (const UnetLayer* layer : level.layers) {
      if (options.deep && left == options.depth) {
        if (given.shallow)
          x = options.deep->view();
        else
          options.deep->keep(ctx, x);
      }
      if (!given.shallow || left <= options.depth) {
        JoinedTensor both(std::move(x), std::move(skips.back()));
        skips.pop_back();
        x = encoder_.forward_layer(ctx, pass, *layer, std::move(both));
      }
      --left;
    }
    if (level.upsample && x) x = level.upsample->upsample(ctx, x, skips.back().h, skips.back().w);
  }
  return x;
}

/// Adds one residual to each skip connection, and the last one to the middle block's output. A shallow pass
/// has the first skip connections alone.
void Unet::add_residuals(ForwardContext& ctx, const KeptTensors& residuals, const std::vector<Tensor>& skips,
                         const Tensor& middle) const {
  if (ctx.measuring()) return;
  const auto add = [&](size_t index, const Tensor& to) {
    const Tensor from = residuals.view(index);
    if (from.n != to.n || from.h != to.h || from.w != to.w || from.c != to.c)
      throw Error(ErrorCode::invalid_argument, "Expected residuals that were computed for these latents");
    backend_.add_rows(ctx, from, 0, to, 0, to.rows(), 1, false);
  };
  if (!residuals.in(backend_.memory()) || residuals.count() < skips.size() + (middle ? 1 : 0))
    throw Error(ErrorCode::invalid_argument, "Expected residuals for every skip connection of this UNet");
  for (size_t i = 0; i < skips.size(); ++i) add(i, skips[i]);
  if (middle) add(residuals.count() - 1, middle);
}

Tensor Unet::forward(ForwardContext& ctx, const Pass& given) const {
  const UnetInput& input = given.input;
  // Nothing is allocated while kernels are recorded.
  if (given.options.deep && !given.shallow && !ctx.measuring()) given.options.deep->allocate(ctx);
  const Tensor shifts = encoder_.shifts(ctx, input.n, given.keys, given.shifts);
  UnetPass pass = encoder_.pass(given.context, shifts, given.options.token_merging);
  pass.images = input.conditioning.images;
  pass.inputs = input.conditioning.inputs;
  const size_t wanted =
      given.shallow ? static_cast<size_t>(given.options.depth) : std::numeric_limits<size_t>::max();
  std::vector<Tensor> skips = encoder_.encode(ctx, pass, input, encoder_.latents(ctx, input), wanted);
  Tensor x;
  if (!given.shallow) {
    x = encoder_.middle(ctx, pass, skips.back());
    if (x) encoder_.add_features(ctx, input, static_cast<size_t>(config().levels()), x);
  }
  if (input.conditioning.residuals) add_residuals(ctx, *input.conditioning.residuals, skips, x);
  x = decode(ctx, given, pass, std::move(x), std::move(skips));
  return conv_out_->forward(ctx, x, norm_out_.get());
}

void Unet::predict(const UnetInput& input, float* out, const CancelToken* cancel,
                   const UnetOptions& options) {
  const Conditioning& conditioning = input.conditioning;
  if (input.n < 1 || input.h < 1 || input.w < 1 ||
      (conditioning.context_length < 1 && config().has_attention())) {
    throw Error(ErrorCode::invalid_argument,
                "Expected latents and context of at least one element in each dimension");
  }
  check(options);
  const TimestepKeys keys = encoder_.time().keys(conditioning, input.n);
  encoder_.cache_shifts(workspace_, keys, cancel);
  Pass pass{input, options, keys};
  pass.context = encoder_.cache_context(workspace_, conditioning, input.n, cancel);
  const std::vector<std::unique_lock<std::mutex>> locks = lock_kept(conditioning);
  if (conditioning.images) check_image_prompts(*conditioning.images, config(), input.n, backend_.memory());
  if (conditioning.inputs) check_input_changes(*conditioning.inputs, input.n, backend_.memory());
  check_features(conditioning, backend_.memory(), input.n);
  std::unique_lock<std::mutex> lock;
  const DeepFeatures::Origin origin{weights_id_, input.n, input.h, input.w, options.depth};
  if (options.deep) {
    lock = std::unique_lock<std::mutex>(options.deep->mutex);
    pass.shallow = options.reuse && options.deep->has(origin);
    if (!pass.shallow) options.deep->begin();
  }
  if (backend_.records())
    predict_repeated(pass, out, cancel);
  else
    workspace_.run(cancel, [&](ForwardContext& ctx) { give(ctx, forward(ctx, pass), input, out); });
  if (options.deep) options.deep->finish(origin);
}

void Unet::give(ForwardContext& ctx, const Tensor& prediction, const UnetInput& input, float* out) const {
  if (input.resident)
    backend_.to_resident(ctx, prediction, *input.resident);
  else
    backend_.to_planar(ctx, prediction, out);
}

/// A denoising run calls this once a step with other numbers: they are staged at addresses that stay.
void Unet::predict_repeated(const Pass& given, float* out, const CancelToken* cancel) {
  const UnetInput& input = given.input;
  const UnetOptions& options = given.options;
  const int64_t out_floats = input.resident ? 0 : input.n * input.h * input.w * config().out_channels;
  const UnetInput staged = encoder_.stage(input, given.keys, out_floats, staged_);
  Pass pass{staged, options, given.keys, given.shallow, given.context, staged_.shifts.data()};
  const auto current_key = [&] {
    ForwardKey key = key_of(staged, pass.context, staged_);
    append(key, std::llround(options.token_merging * 1e9));
    append(key, options.deep ? options.depth : 0);
    append(key, pass.shallow);
    if (options.deep) options.deep->describe(key);
    return key;
  };
  workspace_.run_repeated(current_key, cancel, input.resident, [&](ForwardContext& ctx) {
    give(ctx, forward(ctx, pass), staged, staged_.out.data());
  });
  std::copy_n(staged_.out.data(), out_floats, out);
}

size_t Unet::working_bytes(int64_t n, int64_t h, int64_t w, int64_t length, const UnetOptions& options,
                           const std::vector<ImagePrompt>& images) const {
  check(options);
  const TimestepKeys keys = encoder_.time().no_keys(n);
  const size_t kept = encoder_.cache_bytes(n, length);
  size_t bytes = encoder_.caching_bytes(n, length);
  DeepFeatures deep;
  UnetInput input;
  input.n = n, input.h = h, input.w = w;
  if (!images.empty()) input.conditioning.images = &images;
  UnetOptions measured = options;
  measured.deep = options.depth > 0 ? &deep : nullptr;
  Pass pass{input, measured, keys};
  pass.context.length = length;
  bytes = std::max(bytes, Workspace::measure(backend_, [&](ForwardContext& ctx) { forward(ctx, pass); }));
  return kept + deep.bytes() + bytes;
}

}  // namespace nd
