// The T2I-Adapter.
#include "configs.h"
#include "kept.h"
#include "models.h"
#include "unet_call.h"

namespace nd_binding {

Napi::Function T2iAdapterWrap::define(Napi::Env env) {
  return DefineClass(env, kName,
                     with_common({InstanceAccessor("features", &T2iAdapterWrap::features, nullptr),
                                  InstanceMethod("embed", &T2iAdapterWrap::embed),
                                  InstanceMethod("memory", &T2iAdapterWrap::memory)}));
}

Napi::Value T2iAdapterWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return ModelWrap::load(info, read_t2i_adapter_config(info[0])); });
}

Napi::Value T2iAdapterWrap::features(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return Napi::Number::New(info.Env(), static_cast<double>(shared()->model().features()));
  });
}

Napi::Value T2iAdapterWrap::embed(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const Pointer shared = this->shared();
    const Fields fields(info[0], "call");
    const BatchSizes sizes = read_batch_sizes(fields);
    const int64_t floats = sizes.pixels * shared->model().config().image_channels;
    const auto pictures = std::make_shared<const std::vector<float>>(fields.floats("pictures", floats));
    const auto to = KeptTensorsWrap::from(fields.get("to"), fields.name("to"), shared->device());
    return call(info.Env(), shared, info[1], [=](nd::T2iAdapter& model, const nd::CancelToken& cancel) {
      model.embed(pictures->data(), sizes.n, sizes.h, sizes.w, *to, &cancel);
    });
  });
}

Napi::Value T2iAdapterWrap::memory(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Pointer shared = this->shared();
    const BatchSizes sizes = read_batch_sizes(Fields(info[0], "call"));
    const nd::T2iAdapterMemory memory = shared->model().memory(sizes.n, sizes.h, sizes.w);
    Napi::Object result = Napi::Object::New(info.Env());
    result.Set("working", Napi::Number::New(info.Env(), static_cast<double>(memory.working)));
    result.Set("features", Napi::Number::New(info.Env(), static_cast<double>(memory.features)));
    return result;
  });
}

}  // namespace nd_binding
