#include <memory>

#include "configs.h"
#include "engine_limits.h"
#include "models.h"
#include "unet_call.h"

namespace nd_binding {
namespace {

/// Timesteps and what is embedded with them, for n images.
Conditions read_k_conditions(const Fields& fields, int64_t n, const nd::KUnetConfig& config) {
  Conditions conditions;
  conditions.timesteps = fields.floats("timesteps", n);
  conditions.time_condition = fields.floats("timestepCond", n * config.condition_width);
  return conditions;
}

int64_t read_length(const Fields& conditioning) {
  return conditioning.integer("contextLength", 1, Limits::side);
}

}  // namespace

Napi::Value KUnetWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return ModelWrap::load(info, read_k_unet_config(info[0])); });
}

Napi::Value KUnetWrap::max_depth(NativeObject&, const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), 0);
}

Napi::Value KUnetWrap::predict(NativeObject& self, const Napi::CallbackInfo& info) {
  const Pointer shared = model_of(self);
  const nd::KUnetConfig& config = shared->model().config();
  const Fields fields(info[0], "call");
  auto read = std::make_shared<UnetCall>();
  read->sizes = read_batch_sizes(fields);
  const int64_t n = read->sizes.n;
  read->latents = fields.floats("latents", read->sizes.pixels * config.in_channels);
  const Fields conditioning = read_conditioning(fields);
  read->conditions = read_k_conditions(conditioning, n, config);
  const int64_t length = read_length(conditioning);
  read->conditions.context_length = length;
  read->conditions.context = conditioning.floats("context", n * length * config.context_width);
  const std::shared_ptr<const UnetCall> call = read;
  shared->model().check(call->input());
  return compute<float>(info.Env(), shared, info[1], call->sizes.pixels * config.out_channels,
                        [call](nd::KUnet& model, float* out, const nd::CancelToken& cancel) {
                          model.predict(call->input(), out, &cancel);
                        });
}

Napi::Value KUnetWrap::prepare(NativeObject& self, const Napi::CallbackInfo& info) {
  const Pointer shared = model_of(self);
  const Fields fields(info[0], "call");
  const int64_t n = fields.integer("n", 1, Limits::timesteps);
  auto conditions = std::make_shared<const Conditions>(
      read_k_conditions(read_conditioning(fields), n, shared->model().config()));
  return call(info.Env(), shared, info[1], [=](nd::KUnet& model, const nd::CancelToken& cancel) {
    model.prepare(conditions->view(), n, &cancel);
  });
}

Napi::Value KUnetWrap::working_bytes(NativeObject& self, const Napi::CallbackInfo& info) {
  const Pointer shared = model_of(self);
  const Fields fields(info[0], "call");
  const BatchSizes sizes = read_batch_sizes(fields);
  const int64_t length = read_length(read_conditioning(fields));
  return bytes_value(info.Env(), shared->model().working_bytes(sizes.n, sizes.h, sizes.w, length));
}

const NativeMember KUnetWrap::kMembers[4] = {
    {NativeMember::Kind::getter, "maxDepth", max_depth},
    {NativeMember::Kind::method, "predict", predict},
    {NativeMember::Kind::method, "prepare", prepare},
    {NativeMember::Kind::method, "workingBytes", working_bytes},
};

const NativeClass KUnetWrap::kClass = {"NativeKUnet", nullptr, true, model_bytes, {kMembers, kModelMembers}};

}  // namespace nd_binding
