// Native classes of what a denoising run keeps in the engine: DeepFeatures and KeptTensors of lib/native.ts.
#pragma once
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "failure.h"
#include "free_elsewhere.h"
#include "napi_all.h"
#include "unet/deep_features.h"
#include "unet/kept_tensors.h"

namespace nd_binding {

/// Kind has a type Kept, static const char* kName and static napi_type_tag kTag.
template <class Kind>
class KeptWrap : public Napi::ObjectWrap<KeptWrap<Kind>> {
 public:
  using Base = Napi::ObjectWrap<KeptWrap<Kind>>;
  using Kept = typename Kind::Kept;

  static Napi::Function define(Napi::Env env) {
    return Base::DefineClass(env, Kind::kName, {Base::InstanceMethod("dispose", &KeptWrap::dispose)});
  }
  /// What an argument wraps. Throws TypeFailure for any other value. `device` computes it: it lives as long.
  static std::shared_ptr<Kept> from(Napi::Value value, const std::string& name,
                                    const std::shared_ptr<void>& device) {
    if (!is_one(value)) throw TypeFailure{std::string("Expected ") + Kind::kName + " for " + name};
    const std::shared_ptr<State>& state = Unwrap(value.As<Napi::Object>())->state_;
    std::vector<std::shared_ptr<void>>& devices = state->devices;
    if (device && std::find(devices.begin(), devices.end(), device) == devices.end())
      devices.push_back(device);
    return {state, &state->kept};
  }

  explicit KeptWrap(const Napi::CallbackInfo& info) : Base(info) {
    info.This().As<Napi::Object>().TypeTag(&Kind::kTag);
  }
  // Hides ObjectWrap's Unwrap, which accepts any wrapped object.
  static KeptWrap* Unwrap(Napi::Object object) {
    if (!is_one(object))
      throw Napi::TypeError::New(object.Env(), std::string("Expected `this` to be ") + Kind::kName);
    return Base::Unwrap(object);
  }
  void Finalize(Napi::BasicEnv) override { free_elsewhere(std::move(state_)); }

 private:
  struct State {
    std::vector<std::shared_ptr<void>> devices;
    Kept kept;
  };

  static bool is_one(Napi::Value value) {
    return value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&Kind::kTag);
  }
  // A running call keeps the old state alive, so this thread does not wait for it.
  Napi::Value dispose(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      free_elsewhere(std::exchange(state_, std::make_shared<State>()));
      return info.Env().Undefined();
    });
  }

  std::shared_ptr<State> state_ = std::make_shared<State>();
};

struct DeepFeaturesKind {
  using Kept = nd::DeepFeatures;
  static constexpr const char* kName = "DeepFeatures";
  static constexpr napi_type_tag kTag = {0x6e6f64652d646966, 0x6664656570666501};
};
struct KeptTensorsKind {
  using Kept = nd::KeptTensors;
  static constexpr const char* kName = "KeptTensors";
  static constexpr napi_type_tag kTag = {0x6e6f64652d646966, 0x666b657074746501};
};
using DeepFeaturesWrap = KeptWrap<DeepFeaturesKind>;
using KeptTensorsWrap = KeptWrap<KeptTensorsKind>;

}  // namespace nd_binding
