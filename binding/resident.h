// The JavaScript class of tensors that stay on a device between forwards: NativeResidentTensors of
// lib/native.ts.
#pragma once
#include <memory>
#include <string>

#include "arguments.h"
#include "cuda/devices.h"
#include "napi_all.h"
#include "nn/resident.h"

namespace nd_binding {

class ResidentTensorsWrap {
 public:
  static Napi::Function define(Napi::Env env);
  /// The object, or null where there are no tensors.
  static Napi::Value create(Napi::Env env, const std::shared_ptr<nd::cuda::CudaBackend>& device,
                            std::shared_ptr<nd::ResidentTensors> tensors);
  /// What an argument wraps. Throws TypeFailure for any other value, and for tensors of another device. Error
  /// disposed.
  static std::shared_ptr<nd::ResidentTensors> from(Napi::Value value, const std::string& name,
                                                   const std::shared_ptr<nd::cuda::CudaBackend>& device);
};

/// Tensors, and what a model computes with them before it reads them.
struct ResidentInput {
  std::shared_ptr<nd::ResidentTensors> tensors;
  std::shared_ptr<nd::ResidentProgram> program;
};

/// `resident` of a call: a ResidentCall of lib/native.ts.
ResidentInput read_resident(const Fields& call, const std::shared_ptr<nd::cuda::CudaBackend>& device);

/// A ResidentProgram of lib/native.ts, for these tensors.
nd::ResidentProgram read_program(const Fields& call, const char* key, const nd::ResidentTensors& tensors);

}  // namespace nd_binding
