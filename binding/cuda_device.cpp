#include "cuda_device.h"

#include <vector>

#include "addon.h"
#include "arguments.h"
#include "cancel_token.h"
#include "core/error.h"
#include "failure.h"
#include "job.h"
#include "native_object.h"

namespace nd_binding {
namespace {

constexpr int64_t kMaxDevices = 1024;

Napi::Object description_object(Napi::Env env, const nd::cuda::DeviceDescription& device) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("number", device.number);
  result.Set("name", device.name);
  result.Set("capability", device.capability);
  result.Set("memory", static_cast<double>(device.memory_bytes));
  if (!device.tiles.empty()) result.Set("tiles", device.tiles);
  if (!device.hopper.empty()) result.Set("hopper", device.hopper);
  if (!device.overlap.empty()) result.Set("overlap", device.overlap);
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

namespace {

std::shared_ptr<nd::cuda::CudaBackend> backend_of(const NativeObject& object) {
  if (!object.content()) throw nd::Error(nd::ErrorCode::disposed, "This CudaDevice has been disposed");
  return std::static_pointer_cast<nd::cuda::CudaBackend>(object.content());
}

Napi::Value memory(NativeObject& self, const Napi::CallbackInfo& info) {
  return memory_object(info.Env(), nd::cuda::memory_info(*backend_of(self)));
}

// The models on it keep the device.
Napi::Value dispose(NativeObject& self, const Napi::CallbackInfo& info) {
  return self.dispose(info.Env());
}

constexpr NativeMember kMembers[] = {
    {NativeMember::Kind::method, "memory", memory},
    {NativeMember::Kind::method, "dispose", dispose},
};
constexpr NativeClass kClass = {"CudaDevice", nullptr, true, nullptr, {kMembers}};

}  // namespace

Napi::Function CudaDeviceWrap::define(Napi::Env env) {
  return NativeObject::define(env, kClass);
}

Napi::Value CudaDeviceWrap::open(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const int number = static_cast<int>(to_integer(info[0], "number", 0, kMaxDevices));
    auto image = std::make_shared<std::vector<char>>(to_bytes(info[1], "image"));
    image->push_back('\0');  // PTX is text
    auto backend = std::make_shared<std::shared_ptr<nd::cuda::CudaBackend>>();
    return run_async(
        info.Env(), CancelTokenWrap::from(info[2], "cancel"),
        [number, image, backend](const nd::CancelToken& cancel) {
          *backend = nd::cuda::open_device(nd::cuda::system_driver(), number, *image, &cancel);
        },
        [backend](Napi::Env env) -> Napi::Value {
          return NativeObject::create(Addon::of(env).cuda_device, *backend);
        });
  });
}

std::shared_ptr<nd::cuda::CudaBackend> CudaDeviceWrap::from(Napi::Value value, const std::string& name) {
  const NativeObject* const object = NativeObject::find(value, kClass);
  if (!object) throw TypeFailure{"Expected CudaDevice for " + name};
  return backend_of(*object);
}

}  // namespace nd_binding
