#include "source.h"

#include "arguments.h"
#include "core/error.h"
#include "cpu/backend.h"
#include "cuda_device.h"
#include "engine_limits.h"

namespace nd_binding {
namespace {

nd::Precision precision_of(const std::string& text, const std::string& name) {
  if (text == "auto") return nd::Precision::automatic;
  if (text == "f32") return nd::Precision::f32;
  if (text == "bf16") return nd::Precision::bf16;
  if (text == "int8") return nd::Precision::i8;
  throw nd::Error(nd::ErrorCode::invalid_argument,
                  "Expected one of auto, f32, bf16, int8 for " + name + " but received " + text);
}

nd::Residency residency_of(const std::string& text, const std::string& name) {
  if (text == "all") return nd::Residency::all;
  if (text == "per-step") return nd::Residency::per_step;
  if (text == "none") return nd::Residency::none;
  throw nd::Error(nd::ErrorCode::invalid_argument,
                  "Expected one of all, per-step, none for " + name + " but received " + text);
}

}  // namespace

Source Source::read(Napi::Value value, const std::string& name) {
  const Fields fields(value, name);
  Source source;
  const Napi::Array files = to_array(fields.get("files"), name + ".files");
  for (uint32_t i = 0; i < files.Length(); ++i) {
    const Napi::HandleScope scope(value.Env());
    source.files.push_back(to_string(files.Get(i), name + ".files[" + std::to_string(i) + "]"));
  }
  if (fields.has("precision"))
    source.options.precision = precision_of(fields.string("precision"), name + ".precision");
  if (fields.has("residency"))
    source.options.residency = residency_of(fields.string("residency"), name + ".residency");
  if (fields.has("device")) source.device = CudaDeviceWrap::from(fields.get("device"), name + ".device");
  if (source.files.empty()) {
    throw nd::Error(nd::ErrorCode::invalid_argument, "Expected at least 1 element in " + name + ".files");
  }
  const Napi::Array tensors = to_array(fields.get("tensors"), name + ".tensors");
  for (uint32_t i = 0; i < tensors.Length(); ++i) {
    const Napi::HandleScope scope(value.Env());
    const Fields entry(tensors.Get(i), name + ".tensors[" + std::to_string(i) + "]");
    Tensor tensor;
    tensor.name = entry.string("name");
    tensor.type = entry.string("type");
    tensor.shape = entry.integers("shape", 0, Limits::dimension, Limits::rank);
    int64_t elements = 1;
    for (int64_t dimension : tensor.shape) {
      if (dimension > 0 && elements > Limits::elements / dimension) {
        throw nd::Error(nd::ErrorCode::model_format, "Expected fewer elements in tensor " + tensor.name);
      }
      elements *= dimension;
    }
    tensor.file = static_cast<int>(entry.integer("file", 0, static_cast<int64_t>(source.files.size()) - 1));
    tensor.offset = static_cast<uint64_t>(entry.integer("offset", 0, Limits::bytes));
    tensor.bytes = static_cast<uint64_t>(entry.integer("bytes", 0, Limits::bytes));
    tensor.channels_last = entry.has("channelsLast") && entry.boolean("channelsLast");
    source.tensors.push_back(std::move(tensor));
  }
  return source;
}

nd::WeightTable Source::build() const {
  nd::WeightTable table;
  std::vector<int> indices;
  for (const std::string& file : files) indices.push_back(table.add_file(file));
  for (const Tensor& tensor : tensors) {
    table.add(tensor.name, nd::tensor_type(tensor.type), tensor.shape, tensor.channels_last,
              indices[static_cast<size_t>(tensor.file)], tensor.offset, tensor.bytes);
  }
  return table;
}

nd::Backend& Source::backend() const {
  if (device) return *device;
  return nd::cpu::CpuBackend::shared();
}

}  // namespace nd_binding
