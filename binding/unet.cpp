#include "configs.h"
#include "deep_features.h"
#include "engine_limits.h"
#include "models.h"

namespace nd_binding {
namespace {

/// The size of the latents of a call.
struct LatentSizes {
  int64_t n, h, w, pixels;
};

LatentSizes read_latent_sizes(const Fields& call) {
  LatentSizes sizes{};
  sizes.n = call.integer("n", 1, Limits::batch);
  sizes.h = call.integer("h", 1, Limits::side);
  sizes.w = call.integer("w", 1, Limits::side);
  sizes.pixels = batch_pixels(sizes.n, sizes.h, sizes.w);
  return sizes;
}

Fields read_conditioning(const Fields& call) {
  return Fields(call.get("conditioning"), call.name("conditioning"));
}

int64_t read_context_length(const Fields& conditioning, const nd::UnetConfig& config) {
  return conditioning.integer("contextLength", config.has_attention() ? 1 : 0, Limits::side);
}

/// UnetOptions, and the features that they refer to. The model checks the values.
struct CallOptions {
  nd::UnetOptions options;
  std::shared_ptr<nd::DeepFeatures> deep;
};

CallOptions read_options(const Fields& call, const std::shared_ptr<void>& device) {
  CallOptions result;
  if (!call.has("options")) return result;
  const Fields fields(call.get("options"), call.name("options"));
  if (fields.has("tokenMerging")) result.options.token_merging = fields.number("tokenMerging");
  if (fields.has("depth"))
    result.options.depth = fields.integer("depth", 0, Limits::levels * (Limits::layers_per_level + 1));
  if (fields.has("reuse")) result.options.reuse = fields.boolean("reuse");
  if (fields.has("deep"))
    result.deep = DeepFeaturesWrap::from(fields.get("deep"), fields.name("deep"), device);
  result.options.deep = result.deep.get();
  return result;
}

/// A copy of the input of a prediction, because JavaScript may change its arrays as soon as the call returns.
struct UnetCall {
  LatentSizes sizes;
  std::vector<float> latents, timesteps, context;
  int64_t context_length;
  CallOptions call_options;

  nd::UnetInput input() const {
    nd::UnetInput result;
    result.latents = latents.data();
    result.n = sizes.n, result.h = sizes.h, result.w = sizes.w;
    result.conditioning.timesteps = timesteps.data();
    result.conditioning.context = context.data();
    result.conditioning.context_length = context_length;
    return result;
  }
};

UnetCall read_call(const Fields& fields, const nd::UnetConfig& config, const std::shared_ptr<void>& device) {
  UnetCall call{};
  call.sizes = read_latent_sizes(fields);
  call.latents = fields.floats("latents", call.sizes.pixels * config.in_channels);
  const Fields conditioning = read_conditioning(fields);
  call.timesteps = conditioning.floats("timesteps", call.sizes.n);
  call.context_length = read_context_length(conditioning, config);
  call.context = conditioning.floats("context", call.sizes.n * call.context_length * config.context_width);
  call.call_options = read_options(fields, device);
  return call;
}

}  // namespace

Napi::Function UnetWrap::define(Napi::Env env) {
  return DefineClass(env, kName,
                     with_common({InstanceAccessor("maxDepth", &UnetWrap::max_depth, nullptr),
                                  InstanceMethod("predict", &UnetWrap::predict),
                                  InstanceMethod("prepare", &UnetWrap::prepare),
                                  InstanceMethod("workingBytes", &UnetWrap::working_bytes)}));
}

Napi::Value UnetWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return ModelWrap::load(info, read_unet_config(info[0])); });
}

Napi::Value UnetWrap::max_depth(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return Napi::Number::New(info.Env(), static_cast<double>(shared()->model().max_depth()));
  });
}

Napi::Value UnetWrap::predict(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const Pointer shared = this->shared();
    const nd::UnetConfig& config = shared->model().config();
    auto call =
        std::make_shared<const UnetCall>(read_call(Fields(info[0], "call"), config, shared->device()));
    shared->model().check(call->call_options.options);
    return compute<float>(info.Env(), shared, info[1], call->sizes.pixels * config.out_channels,
                          [call](nd::Unet& model, float* out, const nd::CancelToken& cancel) {
                            model.predict(call->input(), out, &cancel, call->call_options.options);
                          });
  });
}

Napi::Value UnetWrap::prepare(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const Pointer shared = this->shared();
    const Fields fields(info[0], "call");
    const int64_t n = fields.integer("n", 1, Limits::timesteps);
    auto timesteps = std::make_shared<const std::vector<float>>(fields.floats("timesteps", n));
    return call(info.Env(), shared, info[1], [=](nd::Unet& model, const nd::CancelToken& cancel) {
      model.prepare(timesteps->data(), n, &cancel);
    });
  });
}

Napi::Value UnetWrap::working_bytes(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Pointer shared = this->shared();
    const nd::Unet& model = shared->model();
    const Fields fields(info[0], "call");
    const LatentSizes sizes = read_latent_sizes(fields);
    const int64_t length = read_context_length(read_conditioning(fields), model.config());
    const CallOptions call = read_options(fields, shared->device());
    const size_t bytes = model.working_bytes(sizes.n, sizes.h, sizes.w, length, call.options);
    return Napi::Number::New(info.Env(), static_cast<double>(bytes));
  });
}

}  // namespace nd_binding
