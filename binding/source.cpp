#include "source.h"

#include <algorithm>

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

/// Whether the portable kernels were chosen.
bool is_portable(const std::string& text, const std::string& name) {
  if (text == "auto") return false;
  if (text == "portable") return true;
  throw nd::Error(nd::ErrorCode::invalid_argument,
                  "Expected one of auto, portable for " + name + " but received " + text);
}

nd::Residency residency_of(const std::string& text, const std::string& name) {
  if (text == "all") return nd::Residency::all;
  if (text == "per-step") return nd::Residency::per_step;
  if (text == "none") return nd::Residency::none;
  throw nd::Error(nd::ErrorCode::invalid_argument,
                  "Expected one of all, per-step, none for " + name + " but received " + text);
}

nd::Adapter::Kind kind_of(const std::string& text, const std::string& name) {
  using Kind = nd::Adapter::Kind;
  if (text == "low-rank") return Kind::low_rank;
  if (text == "hadamard") return Kind::hadamard;
  if (text == "kronecker") return Kind::kronecker;
  if (text == "difference") return Kind::difference;
  if (text == "rescale-outputs") return Kind::rescale_outputs;
  if (text == "rescale-inputs") return Kind::rescale_inputs;
  throw nd::Error(nd::ErrorCode::invalid_argument,
                  "Expected the kind of an adapter for " + name + " but received " + text);
}

Source::Tensor read_tensor(const Fields& entry, int64_t files) {
  Source::Tensor tensor;
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
  tensor.file = static_cast<int>(entry.integer("file", 0, files - 1));
  tensor.offset = static_cast<uint64_t>(entry.integer("offset", 0, Limits::bytes));
  tensor.bytes = static_cast<uint64_t>(entry.integer("bytes", 0, Limits::bytes));
  tensor.channels_last = entry.has("channelsLast") && entry.boolean("channelsLast");
  if (entry.has("scale")) tensor.scale = static_cast<float>(entry.number("scale"));
  return tensor;
}

std::vector<Source::Tensor> read_tensors(Napi::Value value, const std::string& name, int64_t files) {
  std::vector<Source::Tensor> tensors;
  const Napi::Array array = to_array(value, name);
  for (uint32_t i = 0; i < array.Length(); ++i)
    tensors.push_back(read_tensor(Fields(array.Get(i), name + "[" + std::to_string(i) + "]"), files));
  return tensors;
}

Source::Change read_change(const Fields& fields, int64_t files) {
  Source::Change change;
  change.adapter.kind = kind_of(fields.string("kind"), fields.name("kind"));
  change.adapter.scale = static_cast<float>(fields.number("scale"));
  if (fields.has("strength")) change.adapter.strength = static_cast<float>(fields.number("strength"));
  const Napi::Array factors = to_array(fields.get("factors"), fields.name("factors"));
  const bool transposed = fields.has("transposedUp") && fields.boolean("transposedUp");
  for (uint32_t i = 0; i < factors.Length(); ++i) {
    change.factors.push_back(
        read_tensors(factors.Get(i), fields.name("factors") + "[" + std::to_string(i) + "]", files));
    // LyCORIS stores the first factor transposed beside a core only.
    change.adapter.factors.push_back({{}, transposed && change.factors.back().size() == 3});
  }
  if (fields.has("magnitude"))
    change.magnitude.push_back(read_tensor(Fields(fields.get("magnitude"), fields.name("magnitude")), files));
  change.adapter.magnitude_of_inputs = fields.has("magnitudeOfInputs") && fields.boolean("magnitudeOfInputs");
  return change;
}

nd::os::FileState identity_of(Napi::Value value, const std::string& name) {
  const Fields fields(value, name);
  nd::os::FileState identity;
  identity.device = fields.unsigned64("device");
  identity.inode = fields.unsigned64("inode");
  identity.size = fields.unsigned64("size");
  identity.modified = static_cast<int64_t>(fields.unsigned64("modified"));
  identity.changed = static_cast<int64_t>(fields.unsigned64("changed"));
  identity.links = fields.unsigned64("links");
  return identity;
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
  if (fields.has("identities")) {
    const Napi::Array identities = to_array(fields.get("identities"), name + ".identities");
    for (uint32_t i = 0; i < identities.Length() && i < files.Length(); ++i) {
      const Napi::HandleScope scope(value.Env());
      source.identities.push_back(
          identity_of(identities.Get(i), name + ".identities[" + std::to_string(i) + "]"));
    }
    if (source.identities.size() != source.files.size())
      throw nd::Error(nd::ErrorCode::invalid_argument,
                      "Expected as many elements in " + name + ".identities as in " + name + ".files");
  }
  if (fields.has("precision"))
    source.options.precision = precision_of(fields.string("precision"), name + ".precision");
  if (fields.has("kernels"))
    source.portable_kernels = is_portable(fields.string("kernels"), name + ".kernels");
  if (fields.has("residency"))
    source.options.residency = residency_of(fields.string("residency"), name + ".residency");
  if (fields.has("plan")) source.options.plan = fields.boolean("plan");
  if (fields.has("zeros")) source.zeros = fields.boolean("zeros");
  if (fields.has("device")) source.device = CudaDeviceWrap::from(fields.get("device"), name + ".device");
  if (source.files.empty() && !source.zeros) {
    throw nd::Error(nd::ErrorCode::invalid_argument, "Expected at least 1 element in " + name + ".files");
  }
  const Napi::Array tensors = to_array(fields.get("tensors"), name + ".tensors");
  const int64_t files_count = std::max<int64_t>(1, static_cast<int64_t>(source.files.size()));
  for (uint32_t i = 0; i < tensors.Length(); ++i) {
    const Napi::HandleScope scope(value.Env());
    const Fields entry(tensors.Get(i), name + ".tensors[" + std::to_string(i) + "]");
    Tensor tensor = read_tensor(entry, files_count);
    if (entry.has("changed")) tensor.changed = entry.boolean("changed");
    if (entry.has("adapters")) {
      const Napi::Array adapters = to_array(entry.get("adapters"), entry.name("adapters"));
      for (uint32_t j = 0; j < adapters.Length(); ++j)
        tensor.changes.push_back(read_change(
            Fields(adapters.Get(j), entry.name("adapters") + "[" + std::to_string(j) + "]"), files_count));
    }
    source.tensors.push_back(std::move(tensor));
  }
  return source;
}

nd::WeightTable Source::build() const {
  nd::WeightTable table;
  if (zeros) {
    for (const Tensor& tensor : tensors)
      table.add_zeros(tensor.name, nd::tensor_type(tensor.type), tensor.shape, tensor.channels_last);
    return table;
  }
  std::vector<int> indices;
  for (size_t i = 0; i < files.size(); ++i)
    indices.push_back(identities.empty() ? table.add_file(files[i])
                                         : table.add_file(files[i], identities[i]));
  const auto stored = [&](const Tensor& tensor) {
    return table.stored(tensor.name, nd::tensor_type(tensor.type), tensor.shape, tensor.channels_last,
                        indices[static_cast<size_t>(tensor.file)], tensor.offset, tensor.bytes, tensor.scale);
  };
  for (const Tensor& tensor : tensors) {
    table.add(tensor.name, nd::tensor_type(tensor.type), tensor.shape, tensor.channels_last,
              indices[static_cast<size_t>(tensor.file)], tensor.offset, tensor.bytes, tensor.scale);
    std::vector<nd::Adapter> adapters;
    for (const Change& change : tensor.changes) {
      nd::Adapter adapter = change.adapter;
      for (size_t i = 0; i < change.factors.size(); ++i)
        for (const Tensor& factor : change.factors[i]) adapter.factors[i].parts.push_back(stored(factor));
      for (const Tensor& magnitude : change.magnitude) adapter.magnitude.push_back(stored(magnitude));
      adapters.push_back(std::move(adapter));
    }
    if (!adapters.empty()) table.adapt(tensor.name, std::move(adapters));
  }
  return table;
}

std::unordered_set<std::string> Source::changed() const {
  std::unordered_set<std::string> names;
  for (const Tensor& tensor : tensors)
    if (tensor.changed) names.insert(tensor.name);
  return names;
}

nd::Backend& Source::backend() const {
  if (device) return *device;
  return portable_kernels ? nd::cpu::CpuBackend::portable() : nd::cpu::CpuBackend::shared();
}

}  // namespace nd_binding
