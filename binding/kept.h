// Native classes of what a denoising run keeps in the engine: DeepFeatures and KeptTensors of lib/native.ts.
#pragma once
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "failure.h"
#include "native_object.h"
#include "unet/deep_features.h"
#include "unet/kept_tensors.h"

namespace nd_binding {

/// Kind has a type Kept and static const char* kName.
template <class Kind>
class KeptWrap {
 public:
  using Kept = typename Kind::Kept;

  static Napi::Function define(Napi::Env env) { return NativeObject::define(env, kClass); }
  /// What an argument wraps. Throws TypeFailure for any other value. `device` computes it: it lives as long.
  static std::shared_ptr<Kept> from(Napi::Value value, const std::string& name,
                                    const std::shared_ptr<void>& device) {
    const NativeObject* const object = NativeObject::find(value, kClass);
    if (!object) throw TypeFailure{std::string("Expected ") + Kind::kName + " for " + name};
    const auto state = std::static_pointer_cast<State>(object->content());
    std::vector<std::shared_ptr<void>>& devices = state->devices;
    if (device && std::find(devices.begin(), devices.end(), device) == devices.end())
      devices.push_back(device);
    return {state, &state->kept};
  }

 private:
  struct State {
    std::vector<std::shared_ptr<void>> devices;
    Kept kept;
  };

  static std::shared_ptr<void> create() { return std::make_shared<State>(); }
  // A running call keeps the old state alive, so this thread does not wait for it.
  static Napi::Value dispose(NativeObject& self, const Napi::CallbackInfo& info) {
    return self.dispose(info.Env(), create());
  }

  static constexpr NativeMember kMembers[] = {{NativeMember::Kind::method, "dispose", dispose}};
  static constexpr NativeClass kClass = {Kind::kName, create, true, nullptr, {kMembers}};
};

struct DeepFeaturesKind {
  using Kept = nd::DeepFeatures;
  static constexpr const char* kName = "DeepFeatures";
};
struct KeptTensorsKind {
  using Kept = nd::KeptTensors;
  static constexpr const char* kName = "KeptTensors";
};
using DeepFeaturesWrap = KeptWrap<DeepFeaturesKind>;
using KeptTensorsWrap = KeptWrap<KeptTensorsKind>;

}  // namespace nd_binding
