// What the JavaScript objects of all models have in common, without the model's type: shared ownership, one
// call at a time, loading, trim, dispose.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>

#include "cuda/devices.h"
#include "job.h"
#include "native_object.h"
#include "nn/loader.h"

namespace nd_binding {

struct Addon;

/// A model and the mutex that protects its workspace. The JavaScript object and every running call share the
/// model, so that dispose() during a call frees it when the call ends.
class SharedModel {
 public:
  /// device: null for the CPU.
  SharedModel(nd::Loader& loader, std::shared_ptr<nd::cuda::CudaBackend> device);
  /// Runs after the model is destroyed.
  virtual ~SharedModel();
  SharedModel(const SharedModel&) = delete;
  SharedModel& operator=(const SharedModel&) = delete;

  size_t weight_bytes() const { return weight_bytes_; }
  /// Whether the model has no weights.
  bool planned() const { return planned_; }
  size_t thread_bytes() const { return backend_.bytes_of(task_bytes_); }
  const nd::LayerTable& layers() const { return layers_; }
  const std::shared_ptr<nd::cuda::CudaBackend>& device() const { return device_; }
  nd::Backend& backend() const { return backend_; }

  /// Runs `call` while no other call uses the model, on a worker thread. If it fails, the working memory is
  /// released.
  void use(const std::function<void()>& call);
  /// Frees the working memory. Never waits for a running call: that trims when it ends.
  void trim();

 private:
  virtual void trim_model() = 0;
  void trim_if_asked();

  const std::shared_ptr<nd::cuda::CudaBackend> device_;  // outlives the model
  nd::Backend& backend_;
  const size_t weight_bytes_;
  const nd::TaskBytes task_bytes_;
  const bool planned_;
  nd::LayerTable layers_;
  std::mutex mutex_;
  std::atomic<bool> trim_asked_{false};
};

/// The members of all models.
extern const NativeMember kModelMembers[6];
/// NativeClass::bytes of all models.
size_t model_bytes(const void* content);

/// The model of an object of any model's class. Keeps it alive, even if reading an argument runs JavaScript
/// that disposes the object. Error disposed.
std::shared_ptr<SharedModel> shared_model(const NativeObject& object);

using MakeModel = std::function<std::shared_ptr<SharedModel>(
    nd::Loader& loader, const std::shared_ptr<nd::cuda::CudaBackend>& device)>;
/// Loads what `make` makes of the source, the second argument, and promises an object of `type`. With a
/// fourth argument, a model of the same class and configuration, it computes on that one's device and shares
/// layers of unchanged tensors.
Napi::Value load_model(const Napi::CallbackInfo& info, const NativeClass& type,
                       Napi::FunctionReference Addon::*constructor, MakeModel make);

/// Calls `call(output, cancel)` on a worker thread, while no other call uses the model, and promises the
/// output array.
template <class Element>
Napi::Value compute_output(Napi::Env env, std::shared_ptr<SharedModel> model, Napi::Value cancel,
                           int64_t output_length,
                           std::function<void(Element* output, const nd::CancelToken& cancel)> call);
/// Calls `call(cancel)` on a worker thread, while no other call uses the model, and promises undefined.
Napi::Value run_call(Napi::Env env, std::shared_ptr<SharedModel> model, Napi::Value cancel,
                     std::function<void(const nd::CancelToken& cancel)> call);

/// A size in bytes as a number.
Napi::Value bytes_value(Napi::Env env, size_t bytes);

}  // namespace nd_binding
