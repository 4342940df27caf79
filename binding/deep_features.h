// The native class DeepFeatures, declared in lib/native.ts.
#pragma once
#include <memory>
#include <string>

#include "napi_all.h"
#include "unet/deep_features.h"

namespace nd_binding {

class DeepFeaturesWrap : public Napi::ObjectWrap<DeepFeaturesWrap> {
 public:
  static Napi::Function define(Napi::Env env);
  /// The features wrapped by an argument. Throws TypeFailure for any other value.
  static std::shared_ptr<nd::DeepFeatures> from(Napi::Value value, const std::string& name);

  explicit DeepFeaturesWrap(const Napi::CallbackInfo& info);
  static DeepFeaturesWrap* Unwrap(Napi::Object object);

 private:
  Napi::Value dispose(const Napi::CallbackInfo& info);

  std::shared_ptr<nd::DeepFeatures> features_ = std::make_shared<nd::DeepFeatures>();
};

}  // namespace nd_binding
