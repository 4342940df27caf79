#include "cuda_device.h"

#include <vector>

#include "addon.h"
#include "arguments.h"
#include "cancel_token.h"
#include "core/error.h"
#include "failure.h"
#include "job.h"

namespace nd_binding {
namespace {

constexpr napi_type_tag kTag = {0x6e6f64652d646966, 0x6663756461000001};
constexpr int64_t kMaxDevices = 1024;

bool is_device(Napi::Value value) {
  return value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&kTag);
}

Napi::Object description_object(Napi::Env env, const nd::cuda::DeviceDescription& device) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("number", device.number);
  result.Set("name", device.name);
  result.Set("capability", device.capability);
  result.Set("memory", static_cast<double>(device.memory_bytes));
  return result;
}

}  // namespace

Napi::Object memory_object(Napi::Env env, const nd::cuda::MemoryInfo& memory) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("free", static_cast<double>(memory.free));
  result.Set("total", static_cast<double>(memory.total));
  return result;
}

Napi::Value cuda_devices(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto list = std::make_shared<std::vector<nd::cuda::DeviceDescription>>();
    return run_async(
        info.Env(), CancelTokenWrap::from(info[0], "cancel"),
        // On a thread of the engine: starting a driver takes a while.
        [list](const nd::CancelToken&) { *list = nd::cuda::list_devices(nd::cuda::system_driver()); },
        [list](Napi::Env env) -> Napi::Value {
          Napi::Array result = Napi::Array::New(env, list->size());
          for (uint32_t i = 0; i < list->size(); ++i) result.Set(i, description_object(env, (*list)[i]));
          return result;
        });
  });
}

Napi::Function CudaDeviceWrap::define(Napi::Env env) {
  return DefineClass(env, "CudaDevice",
                     {InstanceMethod("memory", &CudaDeviceWrap::memory),
                      InstanceMethod("dispose", &CudaDeviceWrap::dispose)});
}

Napi::Value CudaDeviceWrap::open(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const int number = static_cast<int>(to_integer(info[0], "number", 0, kMaxDevices));
    auto image = std::make_shared<std::vector<char>>(to_bytes(info[1], "image"));
    image->push_back('\0');  // PTX is text
    auto backend = std::make_shared<std::shared_ptr<nd::cuda::CudaBackend>>();
    return run_async(
        info.Env(), CancelTokenWrap::from(info[2], "cancel"),
        [number, image, backend](const nd::CancelToken&) {
          *backend = nd::cuda::open_device(nd::cuda::system_driver(), number, *image);
        },
        [backend](Napi::Env env) -> Napi::Value {
          using Pointer = std::shared_ptr<nd::cuda::CudaBackend>;
          return Addon::of(env).cuda_device.New({Napi::External<Pointer>::New(env, backend.get())});
        });
  });
}

std::shared_ptr<nd::cuda::CudaBackend> CudaDeviceWrap::from(Napi::Value value, const std::string& name) {
  if (!is_device(value)) throw TypeFailure{"Expected CudaDevice for " + name};
  std::shared_ptr<nd::cuda::CudaBackend> backend = Unwrap(value.As<Napi::Object>())->backend_;
  if (!backend) throw nd::Error(nd::ErrorCode::disposed, "This CudaDevice has been disposed");
  return backend;
}

CudaDeviceWrap::CudaDeviceWrap(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  if (info.Length() != 1 || !info[0].IsExternal())
    throw Napi::TypeError::New(info.Env(), "CudaDevice cannot be constructed");
  backend_ = *info[0].As<Napi::External<std::shared_ptr<nd::cuda::CudaBackend>>>().Data();
  info.This().As<Napi::Object>().TypeTag(&kTag);
}

// Hides ObjectWrap's Unwrap, which accepts any wrapped object.
CudaDeviceWrap* CudaDeviceWrap::Unwrap(Napi::Object object) {
  if (!is_device(object)) throw Napi::TypeError::New(object.Env(), "Expected `this` to be a CudaDevice");
  return ObjectWrap::Unwrap(object);
}

Napi::Value CudaDeviceWrap::memory(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    if (!backend_) throw nd::Error(nd::ErrorCode::disposed, "This CudaDevice has been disposed");
    return memory_object(info.Env(), nd::cuda::memory_info(*backend_));
  });
}

// The models on it keep the device.
Napi::Value CudaDeviceWrap::dispose(const Napi::CallbackInfo& info) {
  backend_ = nullptr;
  return info.Env().Undefined();
}

}  // namespace nd_binding
