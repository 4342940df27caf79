// The checked table of stored tensors that a model is built from. Its entries come from JavaScript, which
// parsed the files' headers; bounds and sizes are checked here once more.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "weights/adapter.h"
#include "weights/stored_tensor.h"

namespace nd {

class WeightTable {
 public:
  /// Opens the file, which must still be what it was when its header was read; returns its index.
  int add_file(const std::string& path, const std::optional<os::FileState>& header = std::nullopt);
  /// Error model_format if the bytes do not lie inside the file or do not fit type and shape.
  void add(const std::string& name, TensorType type, std::vector<int64_t> shape, bool channels_last, int file,
           uint64_t offset, uint64_t bytes, float scale = 1.0f);
  /// A tensor of zeros that is in no file, for measuring speed. Error invalid_argument if type and shape do
  /// not fit.
  void add_zeros(const std::string& name, TensorType type, std::vector<int64_t> shape, bool channels_last);
  /// Makes adapters part of tensor `name`. Error model_shape if one does not fit the tensor.
  void adapt(const std::string& name, std::vector<Adapter> adapters);
  /// A tensor that is not part of the model, such as a factor of an adapter. Errors as in add().
  StoredTensor stored(const std::string& name, TensorType type, std::vector<int64_t> shape,
                      bool channels_last, int file, uint64_t offset, uint64_t bytes,
                      float scale = 1.0f) const;

  size_t size() const { return tensors_.size(); }
  bool has(const std::string& name) const;
  /// Error model_shape if it is missing or its shape is another (trailing ones don't count: a 1×1 convolution
  /// is a linear layer).
  const StoredTensor& require(const std::string& name, const std::vector<int64_t>& shape) const;
  /// The stored tensor, whatever its shape; Error model_shape if it is missing.
  const StoredTensor& find(const std::string& name) const;

 private:
  std::vector<std::shared_ptr<const WeightFile>> files_;
  std::unordered_map<std::string, StoredTensor> tensors_;
  std::shared_ptr<std::vector<uint8_t>> zeros_;  // of the largest such tensor
};

/// Whether shapes are equal but for trailing ones: a 1×1 convolution is a linear layer.
bool same_but_for_ones(std::vector<int64_t> a, std::vector<int64_t> b);

}  // namespace nd
