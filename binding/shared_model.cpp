#include "shared_model.h"

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
#include "engine_limits.h"
#include "failure.h"
#include "resident.h"
#include "source.h"

namespace nd_binding {

SharedModel::SharedModel(nd::Loader& loader, std::shared_ptr<nd::cuda::CudaBackend> device)
    : device_(std::move(device)),
      backend_(loader.backend()),
      weight_bytes_(loader.packed_bytes()),
      task_bytes_(loader.task_bytes()),
      planned_(loader.plans()),
      layers_(loader.take_table()) {}

SharedModel::~SharedModel() {
  layers_.layers.clear();
  backend_.trim();
  backend_.release_spare_memory();
}

void SharedModel::use(const std::function<void()>& call) {
  if (planned_)
    throw nd::Error(nd::ErrorCode::invalid_argument, "A planned model has no weights to compute with");
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    try {
      call();
    } catch (...) {
      trim_model();
      throw;
    }
  }
  trim_if_asked();
}

void SharedModel::trim() {
  trim_asked_ = true;
  trim_if_asked();
}

void SharedModel::trim_if_asked() {
  const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
  if (lock.owns_lock() && trim_asked_.exchange(false)) trim_model();
}

namespace {

SharedModel* model_of(const NativeObject& object) {
  return static_cast<SharedModel*>(object.content().get());
}

Napi::Value weight_bytes(NativeObject& self, const Napi::CallbackInfo& info) {
  const SharedModel* const model = model_of(self);
  return bytes_value(info.Env(), model ? model->weight_bytes() : 0);
}

Napi::Value thread_bytes(NativeObject& self, const Napi::CallbackInfo& info) {
  const SharedModel* const model = model_of(self);
  return bytes_value(info.Env(), model ? model->thread_bytes() : 0);
}

Napi::Value device_memory(NativeObject& self, const Napi::CallbackInfo& info) {
  const auto model = shared_model(self);
  if (!model->device()) return info.Env().Null();
  return memory_object(info.Env(), nd::cuda::memory_info(*model->device()));
}

Napi::Value resident_tensors(NativeObject& self, const Napi::CallbackInfo& info) {
  const auto model = shared_model(self);
  const int64_t images = to_integer(info[0], "images", 1, Limits::batch);
  const int64_t elements = to_integer(info[1], "elements", images, Limits::elements);
  const int64_t further = to_integer(info[2], "further", 0, Limits::elements);
  return ResidentTensorsWrap::create(info.Env(), model->device(),
                                     model->backend().resident(images, elements, further));
}

/// Returns a promise: returning gigabytes to the system takes a while.
Napi::Value trim(NativeObject& self, const Napi::CallbackInfo& info) {
  auto model = shared_model(self);
  try {
    return run_async(
        info.Env(), std::make_shared<nd::CancelToken>(),
        [model](const nd::CancelToken&) mutable {
          model->trim();
          model.reset();  // it may be the last share, which is not for the JavaScript thread to free
        },
        [](Napi::Env env) { return env.Undefined(); });
  } catch (...) {
    // There is no thread or no memory for that, so the memory is freed here.
    model->trim();
    return info.Env().Undefined();
  }
}

Napi::Value dispose(NativeObject& self, const Napi::CallbackInfo& info) {
  return self.dispose(info.Env());
}

}  // namespace

const NativeMember kModelMembers[6] = {
    {NativeMember::Kind::getter, "weightBytes", weight_bytes},
    {NativeMember::Kind::getter, "threadBytes", thread_bytes},
    {NativeMember::Kind::method, "deviceMemory", device_memory},
    {NativeMember::Kind::method, "residentTensors", resident_tensors},
    {NativeMember::Kind::method, "trim", trim},
    {NativeMember::Kind::method, "dispose", dispose},
};

size_t model_bytes(const void* content) {
  const auto* const model = static_cast<const SharedModel*>(content);
  return model->planned() ? 0 : model->weight_bytes();
}

std::shared_ptr<SharedModel> shared_model(const NativeObject& object) {
  if (!object.content())
    throw nd::Error(nd::ErrorCode::disposed, std::string(object.type().name) + " has been disposed");
  return std::static_pointer_cast<SharedModel>(object.content());
}

Napi::Value load_model(const Napi::CallbackInfo& info, const NativeClass& type,
                       Napi::FunctionReference Addon::*constructor, MakeModel make) {
  auto source = std::make_shared<Source>(Source::read(info[1], "source"));
  std::shared_ptr<SharedModel> base;
  if (info.Length() > 3 && !info[3].IsUndefined()) {
    const NativeObject* const object = NativeObject::find(info[3], type);
    if (!object) throw TypeFailure{std::string("Expected ") + type.name + " for base"};
    base = shared_model(*object);
    source->device = base->device();
  }
  auto loaded = std::make_shared<std::shared_ptr<SharedModel>>();
  return run_async(
      info.Env(), CancelTokenWrap::from(info[2], "cancel"),
      [source, loaded, base, make = std::move(make)](const nd::CancelToken& cancel) {
        const nd::WeightTable table = source->build();
        const std::unordered_set<std::string> changed = source->changed();
        std::optional<nd::Variant> variant;
        if (base) variant.emplace(nd::Variant{base->layers(), changed});
        nd::Loader loader(table, source->backend(), source->options, &cancel, variant ? &*variant : nullptr);
        *loaded = make(loader, source->device);
        nd::release_free_heap();
      },
      [loaded, constructor](Napi::Env env) -> Napi::Value {
        return NativeObject::create(Addon::of(env).*constructor, *loaded);
      });
}

template <class Element>
Napi::Value compute_output(Napi::Env env, std::shared_ptr<SharedModel> model, Napi::Value cancel,
                           int64_t output_length,
                           std::function<void(Element*, const nd::CancelToken&)> call) {
  auto token = CancelTokenWrap::from(cancel, "cancel");
  const Output<Element> output(env, output_length);
  return run_async(
      env, std::move(token),
      [model = std::move(model), output, call = std::move(call)](const nd::CancelToken& cancel) {
        model->use([&] { call(output.data(), cancel); });
      },
      [output](Napi::Env) { return output.value(); });
}
template Napi::Value compute_output<float>(Napi::Env, std::shared_ptr<SharedModel>, Napi::Value, int64_t,
                                           std::function<void(float*, const nd::CancelToken&)>);
template Napi::Value compute_output<int32_t>(Napi::Env, std::shared_ptr<SharedModel>, Napi::Value, int64_t,
                                             std::function<void(int32_t*, const nd::CancelToken&)>);

Napi::Value run_call(Napi::Env env, std::shared_ptr<SharedModel> model, Napi::Value cancel,
                     std::function<void(const nd::CancelToken&)> call) {
  return run_async(
      env, CancelTokenWrap::from(cancel, "cancel"),
      [model = std::move(model), call = std::move(call)](const nd::CancelToken& cancel) {
        model->use([&] { call(cancel); });
      },
      [](Napi::Env env) { return env.Undefined(); });
}

Napi::Value bytes_value(Napi::Env env, size_t bytes) {
  return Napi::Number::New(env, static_cast<double>(bytes));
}

}  // namespace nd_binding
