// The native class CudaDevice, and the list of GPUs; both are declared in lib/native.ts.
#pragma once
#include <memory>
#include <string>

#include "cuda/devices.h"
#include "napi_all.h"

namespace nd_binding {

struct CudaDeviceWrap {
  static Napi::Function define(Napi::Env env);
  /// The backend wrapped by an argument. Throws TypeFailure for any other value; error disposed.
  static std::shared_ptr<nd::cuda::CudaBackend> from(Napi::Value value, const std::string& name);
  /// Promises an object for GPU `number`, whose kernels are in `image`.
  static Napi::Value open(const Napi::CallbackInfo& info);
};

/// Promises the GPUs of this machine.
Napi::Value cuda_devices(const Napi::CallbackInfo& info);

/// { free, total } in bytes.
Napi::Object memory_object(Napi::Env env, const nd::cuda::MemoryInfo& memory);

}  // namespace nd_binding
