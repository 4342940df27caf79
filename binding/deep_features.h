// The native class DeepFeatures, declared in lib/native.ts.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "napi_all.h"
#include "unet/deep_features.h"

namespace nd_binding {

class DeepFeaturesWrap : public Napi::ObjectWrap<DeepFeaturesWrap> {
 public:
  static Napi::Function define(Napi::Env env);
  /// The features wrapped by an argument. Throws TypeFailure for any other value.
  /// `device` computes them: it lives as long as they do.
  static std::shared_ptr<nd::DeepFeatures> from(Napi::Value value, const std::string& name,
                                                const std::shared_ptr<void>& device);

  explicit DeepFeaturesWrap(const Napi::CallbackInfo& info);
  static DeepFeaturesWrap* Unwrap(Napi::Object object);
  void Finalize(Napi::BasicEnv env) override;

 private:
  Napi::Value dispose(const Napi::CallbackInfo& info);

  struct Features {
    std::vector<std::shared_ptr<void>> devices;
    nd::DeepFeatures kept;
  };
  std::shared_ptr<Features> features_ = std::make_shared<Features>();
};

}  // namespace nd_binding
