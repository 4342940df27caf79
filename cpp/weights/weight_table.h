// The checked table of stored tensors that a model is built from. Its entries come from JavaScript, which
// parsed the files' headers; bounds and sizes are checked here once more.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "weights/tensor_type.h"
#include "weights/weight_file.h"

namespace nd {

struct StoredTensor {
  std::string name;
  TensorType type = TensorType::f32;
  std::vector<int64_t> shape;  // torch order
  bool channels_last = false;  // a convolution stored (O, kh, kw, I); shape still says (O, I, kh, kw)
  std::shared_ptr<const WeightFile> file;  // open for as long as any tensor refers to it
  uint64_t offset = 0, bytes = 0;
  std::shared_ptr<const uint8_t> data;  // the bytes themselves, instead of a file

  int64_t count() const;
  /// Elements [begin, begin + elements) in stored order as float32; both must be multiples of the type's
  /// block. Reading consecutive rows is fast. Error io.
  void read(const FloatDecoders& decoders, int64_t begin, int64_t elements, float* out) const;
  /// The same in the stored type: at most WeightFile::kBuffer bytes, valid until the calling thread reads
  /// again.
  const uint8_t* blocks(int64_t begin, int64_t elements) const;
};

class WeightTable {
 public:
  /// Opens the file; returns its index.
  int add_file(const std::string& path);
  /// Error model_format if the bytes do not lie inside the file or do not fit type and shape.
  void add(const std::string& name, TensorType type, std::vector<int64_t> shape, bool channels_last, int file,
           uint64_t offset, uint64_t bytes);

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
};

/// Whether shapes are equal but for trailing ones: a 1×1 convolution is a linear layer.
bool same_but_for_ones(std::vector<int64_t> a, std::vector<int64_t> b);

}  // namespace nd
