// The stored tensors that lib/models found in the headers of the files.
#pragma once
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "cuda/devices.h"
#include "nn/loader.h"
#include "napi_all.h"

namespace nd_binding {

/// A ModelSource of lib/native.ts. It is read on the JavaScript thread; build() opens the files on a worker
/// thread.
struct Source {
  struct Change;
  struct Tensor {
    std::string name, type;
    std::vector<int64_t> shape;
    bool channels_last = false;
    int file = 0;
    uint64_t offset = 0, bytes = 0;
    float scale = 1.0f;
    std::vector<Change> changes;
    bool changed = false;  // from what the base of a variant has
  };
  /// What an adapter changes in a tensor: an nd::Adapter whose factors have not been opened.
  struct Change {
    nd::Adapter adapter;
    std::vector<std::vector<Tensor>> factors;
    std::vector<Tensor> magnitude;
  };
  std::vector<std::string> files;
  std::vector<nd::os::FileState> identities;  // empty, or one for each file
  nd::LoadOptions options;
  bool portable_kernels = false;
  std::shared_ptr<nd::cuda::CudaBackend> device;  // null: the CPU
  std::vector<Tensor> tensors;
  bool zeros = false;  // the tensors are zeros and in no file

  static Source read(Napi::Value value, const std::string& name);
  /// Opens the files. Errors: io, model_format, unsupported_model (an unknown type).
  nd::WeightTable build() const;
  nd::Backend& backend() const;
  /// Names of the tensors that differ from those of the base of a variant.
  std::unordered_set<std::string> changed() const;
};

}  // namespace nd_binding
