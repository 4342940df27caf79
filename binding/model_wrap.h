// The common part of the JavaScript objects of all models: shared ownership, one call at a time, trim,
// dispose.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>

#include "addon.h"
#include "arguments.h"
#include "cancel_token.h"
#include "core/error.h"
#include "core/memory.h"
#include "cuda_device.h"
#include "failure.h"
#include "free_elsewhere.h"
#include "job.h"
#include "source.h"

namespace nd_binding {

/// A model and the mutex that protects its workspace. The JavaScript object and every running call share the
/// model, so that dispose() during a call frees it when the call ends.
template <class Model>
class SharedModel {
 public:
  /// device: null for the CPU.
  SharedModel(std::unique_ptr<Model> model, nd::Loader& loader, std::shared_ptr<nd::cuda::CudaBackend> device)
      : device_(std::move(device)),
        backend_(loader.backend()),
        model_(std::move(model)),
        weight_bytes_(loader.packed_bytes()),
        task_bytes_(loader.task_bytes()),
        planned_(loader.plans()),
        layers_(loader.take_table()) {}
  ~SharedModel() {
    model_.reset();
    layers_.layers.clear();
    backend_.trim();
  }
  SharedModel(const SharedModel&) = delete;
  SharedModel& operator=(const SharedModel&) = delete;

  size_t weight_bytes() const { return weight_bytes_; }
  /// Whether the model has no weights.
  bool planned() const { return planned_; }
  size_t thread_bytes() const { return backend_.bytes_of(task_bytes_); }
  const Model& model() const { return *model_; }
  const nd::LayerTable& layers() const { return layers_; }
  const std::shared_ptr<nd::cuda::CudaBackend>& device() const { return device_; }

  /// Called on a worker thread. If the call fails, the working memory is released.
  template <class Call>
  void use(Call&& call) {
    if (planned_)
      throw nd::Error(nd::ErrorCode::invalid_argument, "A planned model has no weights to compute with");
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      try {
        call(*model_);
      } catch (...) {
        model_->trim();
        throw;
      }
    }
    trim_if_asked();
  }
  /// Frees the working memory. Never waits for a running call: that trims when it ends.
  void trim() {
    trim_asked_ = true;
    trim_if_asked();
  }

 private:
  void trim_if_asked() {
    const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (lock.owns_lock() && trim_asked_.exchange(false)) model_->trim();
  }

  const std::shared_ptr<nd::cuda::CudaBackend> device_;  // outlives the model
  nd::Backend& backend_;
  std::unique_ptr<Model> model_;
  const size_t weight_bytes_;
  const nd::TaskBytes task_bytes_;
  const bool planned_;
  nd::LayerTable layers_;
  std::mutex mutex_;
  std::atomic<bool> trim_asked_{false};
};

/// Self has static napi_type_tag kTag, static const char* kName and static Napi::FunctionReference&
/// constructor(Addon&).
template <class Self, class Model>
class ModelWrap : public Napi::ObjectWrap<Self> {
 public:
  using Base = Napi::ObjectWrap<Self>;
  using Pointer = std::shared_ptr<SharedModel<Model>>;

  /// Only load() creates objects: JavaScript cannot create the External that the constructor requires.
  explicit ModelWrap(const Napi::CallbackInfo& info) : Base(info) {
    if (info.Length() != 1 || !info[0].IsExternal()) {
      throw Napi::TypeError::New(info.Env(), std::string(Self::kName) + " cannot be constructed");
    }
    shared_ = *info[0].As<Napi::External<Pointer>>().Data();
    info.This().template As<Napi::Object>().TypeTag(&Self::kTag);
    account(info.Env(), +1);
  }

  // Hides ObjectWrap's Unwrap, which accepts any wrapped object.
  static Self* Unwrap(Napi::Object object) {
    if (!object.IsObject() || !object.CheckTypeTag(&Self::kTag)) {
      throw Napi::TypeError::New(object.Env(), std::string("Expected `this` to be a ") + Self::kName);
    }
    return Base::Unwrap(object);
  }

  void Finalize(Napi::BasicEnv env) override {
    account(env, -1);
    release();
  }

  /// Loads the model of `config` and `source` and promises an object of Self. With a fourth argument, a model
  /// of the same configuration, it computes on that one's device and shares layers of unchanged tensors.
  template <class Config>
  static Napi::Value load(const Napi::CallbackInfo& info, Config config) {
    auto source = std::make_shared<Source>(Source::read(info[1], "source"));
    Pointer base;
    if (info.Length() > 3 && !info[3].IsUndefined()) {
      base = Unwrap(to_object(info[3], "base"))->shared();
      source->device = base->device();
    }
    auto loaded = std::make_shared<Pointer>();
    return run_async(
        info.Env(), CancelTokenWrap::from(info[2], "cancel"),
        [config, source, loaded, base](const nd::CancelToken& cancel) {
          const nd::WeightTable table = source->build();
          const std::unordered_set<std::string> changed = source->changed();
          std::optional<nd::Variant> variant;
          if (base) variant.emplace(nd::Variant{base->layers(), changed});
          nd::Loader loader(table, source->backend(), source->options, &cancel,
                            variant ? &*variant : nullptr);
          auto model = std::make_unique<Model>(config, loader);
          *loaded = std::make_shared<SharedModel<Model>>(std::move(model), loader, source->device);
          nd::release_free_heap();
        },
        [loaded](Napi::Env env) -> Napi::Value {
          return Self::constructor(Addon::of(env)).New({Napi::External<Pointer>::New(env, loaded.get())});
        });
  }

 protected:
  static std::vector<typename Base::PropertyDescriptor> with_common(
      std::initializer_list<typename Base::PropertyDescriptor> own) {
    std::vector<typename Base::PropertyDescriptor> all(own);
    all.push_back(Base::InstanceAccessor("weightBytes", &Self::weight_bytes, nullptr));
    all.push_back(Base::InstanceMethod("deviceMemory", &Self::device_memory));
    all.push_back(Base::InstanceAccessor("threadBytes", &Self::thread_bytes, nullptr));
    all.push_back(Base::InstanceMethod("trim", &Self::trim));
    all.push_back(Base::InstanceMethod("dispose", &Self::dispose));
    return all;
  }

  /// Keeps the model alive, even if reading an argument runs JavaScript that disposes this object.
  Pointer shared() const {
    if (!shared_) throw nd::Error(nd::ErrorCode::disposed, std::string(Self::kName) + " has been disposed");
    return shared_;
  }

  /// Calls `call(model, output, cancel)` on a worker thread and promises the output array.
  template <class Element, class Call>
  Napi::Value compute(Napi::Env env, const Pointer& shared, Napi::Value cancel, int64_t output_length,
                      Call call) {
    auto token = CancelTokenWrap::from(cancel, "cancel");
    const Output<Element> output(env, output_length);
    return run_async(
        env, std::move(token),
        [shared, output, call = std::move(call)](const nd::CancelToken& cancel) {
          shared->use([&](Model& model) { call(model, output.data(), cancel); });
        },
        [output](Napi::Env) { return output.value(); });
  }

  /// Calls `call(model, cancel)` on a worker thread and promises undefined.
  template <class Call>
  Napi::Value call(Napi::Env env, const Pointer& shared, Napi::Value cancel, Call call) {
    return run_async(
        env, CancelTokenWrap::from(cancel, "cancel"),
        [shared, call = std::move(call)](const nd::CancelToken& cancel) {
          shared->use([&](Model& model) { call(model, cancel); });
        },
        [](Napi::Env env) { return env.Undefined(); });
  }

 public:
  Napi::Value weight_bytes(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), shared_ ? static_cast<double>(shared_->weight_bytes()) : 0.0);
  }
  Napi::Value device_memory(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const Pointer shared = this->shared();
      if (!shared->device()) return info.Env().Null();
      return memory_object(info.Env(), nd::cuda::memory_info(*shared->device()));
    });
  }
  Napi::Value thread_bytes(const Napi::CallbackInfo& info) {
    const size_t bytes = shared_ ? shared_->thread_bytes() : 0;
    return Napi::Number::New(info.Env(), static_cast<double>(bytes));
  }
  /// Returns a promise: returning gigabytes to the system takes a while.
  Napi::Value trim(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const Pointer model = shared();
      try {
        return run_async(
            info.Env(), std::make_shared<nd::CancelToken>(),
            [model](const nd::CancelToken&) { model->trim(); },
            [](Napi::Env env) { return env.Undefined(); });
      } catch (...) {
        // There is no thread or no memory for that, so the memory is freed here.
        model->trim();
        return info.Env().Undefined();
      }
    });
  }
  Napi::Value dispose(const Napi::CallbackInfo& info) {
    account(info.Env(), -1);
    release();
    return info.Env().Undefined();
  }

 private:
  void release() { free_elsewhere(std::exchange(shared_, nullptr)); }
  /// Tells the garbage collector the size of the model behind this small object.
  void account(Napi::BasicEnv env, int64_t sign) {
    if (shared_ && !shared_->planned())
      Napi::MemoryManagement::AdjustExternalMemory(env, sign * static_cast<int64_t>(shared_->weight_bytes()));
  }

  Pointer shared_;
};

}  // namespace nd_binding
