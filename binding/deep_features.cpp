#include "deep_features.h"

#include <algorithm>
#include <utility>

#include "failure.h"
#include "free_elsewhere.h"

namespace nd_binding {
namespace {

constexpr napi_type_tag kTag = {0x6e6f64652d646966, 0x6664656570666501};

bool is_features(Napi::Value value) {
  return value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&kTag);
}

}  // namespace

Napi::Function DeepFeaturesWrap::define(Napi::Env env) {
  return DefineClass(env, "DeepFeatures", {InstanceMethod("dispose", &DeepFeaturesWrap::dispose)});
}

std::shared_ptr<nd::DeepFeatures> DeepFeaturesWrap::from(Napi::Value value, const std::string& name,
                                                         const std::shared_ptr<void>& device) {
  if (!is_features(value)) throw TypeFailure{"Expected DeepFeatures for " + name};
  const std::shared_ptr<Features>& features = Unwrap(value.As<Napi::Object>())->features_;
  std::vector<std::shared_ptr<void>>& devices = features->devices;
  if (device && std::find(devices.begin(), devices.end(), device) == devices.end()) devices.push_back(device);
  return {features, &features->kept};
}

DeepFeaturesWrap::DeepFeaturesWrap(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  info.This().As<Napi::Object>().TypeTag(&kTag);
}

// Hides ObjectWrap's Unwrap, which accepts any wrapped object.
DeepFeaturesWrap* DeepFeaturesWrap::Unwrap(Napi::Object object) {
  if (!is_features(object)) throw Napi::TypeError::New(object.Env(), "Expected `this` to be DeepFeatures");
  return ObjectWrap::Unwrap(object);
}

void DeepFeaturesWrap::Finalize(Napi::BasicEnv) {
  free_elsewhere(std::move(features_));
}

// A running call keeps the old features alive, so this thread does not wait for it.
Napi::Value DeepFeaturesWrap::dispose(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    free_elsewhere(std::exchange(features_, std::make_shared<Features>()));
    return info.Env().Undefined();
  });
}

}  // namespace nd_binding
