// The T2I-Adapter.
#include "configs.h"
#include "engine_limits.h"
#include "kept.h"
#include "models.h"

namespace nd_binding {
namespace {

/// The size of the pictures of a call, in pixels.
struct PictureSizes {
  int64_t n, h, w;
};

PictureSizes read_picture_sizes(const Fields& call) {
  PictureSizes sizes{};
  sizes.n = call.integer("n", 1, Limits::batch);
  sizes.h = call.integer("h", 1, Limits::side);
  sizes.w = call.integer("w", 1, Limits::side);
  return sizes;
}

}  // namespace

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
    const PictureSizes sizes = read_picture_sizes(fields);
    const int64_t floats = batch_pixels(sizes.n, sizes.h, sizes.w) * shared->model().config().image_channels;
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
    const nd::T2iAdapter& model = shared->model();
    const PictureSizes sizes = read_picture_sizes(Fields(info[0], "call"));
    batch_pixels(sizes.n, sizes.h, sizes.w);
    Napi::Object result = Napi::Object::New(info.Env());
    const auto set = [&](const char* key, size_t bytes) {
      result.Set(key, Napi::Number::New(info.Env(), static_cast<double>(bytes)));
    };
    set("working", model.working_bytes(sizes.h, sizes.w));
    set("features", model.feature_bytes(sizes.n, sizes.h, sizes.w));
    return result;
  });
}

}  // namespace nd_binding
