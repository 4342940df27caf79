// A model's type on top of shared_model.h.
#pragma once
#include <memory>
#include <utility>

#include "addon.h"
#include "failure.h"
#include "shared_model.h"

namespace nd_binding {

template <class Model>
class TypedModel final : public SharedModel {
 public:
  TypedModel(std::unique_ptr<Model> model, nd::Loader& loader, std::shared_ptr<nd::cuda::CudaBackend> device)
      : SharedModel(loader, std::move(device)), model_(std::move(model)) {}

  const Model& model() const { return *model_; }
  /// Only for calls within use().
  Model& used() const { return *model_; }

 private:
  void trim_model() override { model_->trim(); }

  std::unique_ptr<Model> model_;
};

/// The members of a class of models are static functions of Self, which has
///   static const NativeClass kClass
///   static constexpr Napi::FunctionReference Addon::*kConstructor.
template <class Self, class Model>
class ModelWrap {
 public:
  static Napi::Function define(Napi::Env env) { return NativeObject::define(env, Self::kClass); }

 protected:
  using Pointer = std::shared_ptr<TypedModel<Model>>;

  static Pointer model_of(const NativeObject& self) {
    return std::static_pointer_cast<TypedModel<Model>>(shared_model(self));
  }

  /// Loads a model of `config`, as load_model() does.
  template <class Config>
  static Napi::Value load(const Napi::CallbackInfo& info, Config config) {
    return load_model(info, Self::kClass, Self::kConstructor,
                      [config](nd::Loader& loader, const std::shared_ptr<nd::cuda::CudaBackend>& device) {
                        auto model = std::make_unique<Model>(config, loader);
                        return std::make_shared<TypedModel<Model>>(std::move(model), loader, device);
                      });
  }

  /// Calls `call(model, output, cancel)` on a worker thread and promises the output array.
  template <class Element, class Call>
  static Napi::Value compute(Napi::Env env, const Pointer& shared, Napi::Value cancel, int64_t output_length,
                             Call call) {
    Model& model = shared->used();
    return compute_output<Element>(
        env, shared, cancel, output_length,
        [&model, call = std::move(call)](Element* out, const nd::CancelToken& cancel) {
          call(model, out, cancel);
        });
  }

  /// Calls `call(model, cancel)` on a worker thread and promises undefined.
  template <class Call>
  static Napi::Value call(Napi::Env env, const Pointer& shared, Napi::Value cancel, Call call) {
    Model& model = shared->used();
    return run_call(env, shared, cancel,
                    [&model, call = std::move(call)](const nd::CancelToken& cancel) { call(model, cancel); });
  }
};

}  // namespace nd_binding
