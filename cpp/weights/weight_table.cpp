#include "weights/weight_table.h"

#include <limits>
#include <utility>

#include "core/error.h"
#include "weights/formats/traits.h"

namespace nd {

namespace {

std::string text(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

}  // namespace

bool same_but_for_ones(std::vector<int64_t> a, std::vector<int64_t> b) {
  while (a.size() > 1 && a.back() == 1) a.pop_back();
  while (b.size() > 1 && b.back() == 1) b.pop_back();
  return a == b;
}

int WeightTable::add_file(const std::string& path, const std::optional<os::FileState>& header) {
  files_.push_back(std::make_shared<const WeightFile>(path, header));
  return static_cast<int>(files_.size()) - 1;
}

StoredTensor WeightTable::stored(const std::string& name, TensorType type, std::vector<int64_t> shape,
                                 bool channels_last, int file, uint64_t offset, uint64_t bytes,
                                 float scale) const {
  if (file < 0 || file >= static_cast<int>(files_.size()))
    throw Error(ErrorCode::model_format, "Tensor " + name + " lies in a file that was not given");
  const std::shared_ptr<const WeightFile>& holder = files_[static_cast<size_t>(file)];
  const WeightFile& from = *holder;
  int64_t count = 1;
  for (const int64_t length : shape) {
    if (length < 0 || (length > 0 && count > std::numeric_limits<int64_t>::max() / 16 / length))
      throw Error(ErrorCode::model_format,
                  from.path() + ": tensor " + name + " has the impossible shape " + text(shape));
    count *= length;
  }
  const int64_t expected = stored_bytes(type, count);
  if (expected < 0 || static_cast<uint64_t>(expected) != bytes)
    throw Error(ErrorCode::model_format,
                from.path() + ": tensor " + name + " of type " + name_of(type) + " and shape " + text(shape) +
                    " needs " + std::to_string(expected) + " bytes but has " + std::to_string(bytes));
  if (offset > from.size() || bytes > from.size() - offset)
    throw Error(ErrorCode::model_format, from.path() + ": tensor " + name + " ends at byte " +
                                             std::to_string(offset + bytes) + " but the file has " +
                                             std::to_string(from.size()) + " bytes");
  StoredTensor tensor;
  tensor.name = name;
  tensor.type = type;
  tensor.shape = std::move(shape);
  tensor.channels_last = channels_last;
  tensor.file = holder;
  tensor.offset = offset;
  tensor.bytes = bytes;
  tensor.scale = scale;
  return tensor;
}

void WeightTable::add(const std::string& name, TensorType type, std::vector<int64_t> shape,
                      bool channels_last, int file, uint64_t offset, uint64_t bytes, float scale) {
  StoredTensor tensor = stored(name, type, std::move(shape), channels_last, file, offset, bytes, scale);
  const std::string path = tensor.file->path();
  if (!tensors_.emplace(name, std::move(tensor)).second)
    throw Error(ErrorCode::model_format, path + ": tensor " + name + " is there twice");
}

void WeightTable::add_zeros(const std::string& name, TensorType type, std::vector<int64_t> shape,
                            bool channels_last) {
  StoredTensor tensor;
  tensor.name = name;
  tensor.type = type;
  tensor.shape = std::move(shape);
  tensor.channels_last = channels_last;
  const int64_t bytes = stored_bytes(type, tensor.count());
  if (bytes < 0) throw Error(ErrorCode::invalid_argument, "Expected whole blocks in tensor " + name);
  tensor.bytes = static_cast<uint64_t>(bytes);
  if (!zeros_ || zeros_->size() < tensor.bytes)
    zeros_ = std::make_shared<std::vector<uint8_t>>(static_cast<size_t>(bytes));
  tensor.data = {zeros_, zeros_->data()};
  tensors_.insert_or_assign(name, std::move(tensor));
}

void WeightTable::adapt(const std::string& name, std::vector<Adapter> adapters) {
  const auto found = tensors_.find(name);
  if (found == tensors_.end())
    throw Error(ErrorCode::model_shape, "An adapter changes tensor " + name + ", which the model lacks");
  for (const Adapter& adapter : adapters) check_adapter(adapter, found->second);
  found->second.adapters = std::make_shared<const std::vector<Adapter>>(std::move(adapters));
}

bool WeightTable::has(const std::string& name) const {
  return tensors_.count(name) > 0;
}

const StoredTensor& WeightTable::find(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found != tensors_.end()) return found->second;
  const std::string where = files_.empty() ? "The model" : files_.front()->path();
  throw Error(ErrorCode::model_shape, where + ": tensor " + name + " is missing");
}

const StoredTensor& WeightTable::require(const std::string& name, const std::vector<int64_t>& shape) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    const std::string where = files_.empty() ? "The model" : files_.front()->path();
    throw Error(ErrorCode::model_shape,
                where + ": tensor " + name + " of shape " + text(shape) + " is missing");
  }
  const StoredTensor& tensor = found->second;
  if (!same_but_for_ones(tensor.shape, shape))
    throw Error(ErrorCode::model_shape, (tensor.file ? tensor.file->path() : "The model") +
                                            ": expected shape " + text(shape) + " for tensor " + name +
                                            " but found " + text(tensor.shape));
  return tensor;
}

}  // namespace nd
