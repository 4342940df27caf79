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

/// Copies of the conditions of a call, because JavaScript may change its arrays as soon as the call returns.
struct Conditions {
  std::vector<float> timesteps, context, pooled, time_ids, guidance, classes;
  int64_t context_length = 0, pooled_width = 0, time_id_count = 0;

  nd::Conditioning view() const {
    const auto given = [](const std::vector<float>& values) {
      return values.empty() ? nullptr : values.data();
    };
    nd::Conditioning result;
    result.timesteps = timesteps.data();
    result.context = context.data();
    result.context_length = context_length;
    result.pooled = given(pooled);
    result.pooled_width = pooled_width;
    result.time_ids = given(time_ids);
    result.time_id_count = time_id_count;
    result.guidance = given(guidance);
    result.classes = given(classes);
    return result;
  }
};

/// Everything but the context, for n images.
Conditions read_embedded(const Fields& fields, int64_t n, const nd::UnetConfig& config) {
  Conditions conditions;
  conditions.timesteps = fields.floats("timesteps", n);
  if (fields.has("pooled")) {
    conditions.pooled_width = fields.integer("pooledWidth", 1, Limits::channels);
    conditions.pooled = fields.floats("pooled", n * conditions.pooled_width);
  }
  if (fields.has("timeIds")) {
    conditions.time_id_count = fields.integer("timeIdCount", 1, Limits::channels);
    conditions.time_ids = fields.floats("timeIds", n * conditions.time_id_count);
  }
  if (fields.has("guidance")) conditions.guidance = fields.floats("guidance", n);
  if (fields.has("classes")) conditions.classes = fields.floats("classes", n * config.class_floats());
  return conditions;
}

/// A copy of the input of a prediction.
struct UnetCall {
  LatentSizes sizes;
  std::vector<float> latents;
  Conditions conditions;
  CallOptions call_options;

  nd::UnetInput input() const {
    nd::UnetInput result;
    result.latents = latents.data();
    result.n = sizes.n, result.h = sizes.h, result.w = sizes.w;
    result.conditioning = conditions.view();
    return result;
  }
};

UnetCall read_call(const Fields& fields, const nd::UnetConfig& config, const std::shared_ptr<void>& device) {
  UnetCall call{};
  call.sizes = read_latent_sizes(fields);
  call.latents = fields.floats("latents", call.sizes.pixels * config.in_channels);
  const Fields conditioning = read_conditioning(fields);
  call.conditions = read_embedded(conditioning, call.sizes.n, config);
  const int64_t length = read_context_length(conditioning, config);
  call.conditions.context_length = length;
  call.conditions.context = conditioning.floats("context", call.sizes.n * length * config.context_width);
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
    shared->model().check(call->conditions.view(), call->sizes.n);
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
    auto conditions = std::make_shared<const Conditions>(
        read_embedded(read_conditioning(fields), n, shared->model().config()));
    shared->model().check(conditions->view(), n);
    return call(info.Env(), shared, info[1], [=](nd::Unet& model, const nd::CancelToken& cancel) {
      model.prepare(conditions->view(), n, &cancel);
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
