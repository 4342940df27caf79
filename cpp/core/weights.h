// The checked table of stored tensors that a model is built from, and the files mapped behind it. The table comes from
// JavaScript, which parsed the headers; bounds and sizes are checked here once more.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/cancel.h"
#include "core/thread_pool.h"
#include "kernels/kernels.h"

namespace nd {

/// A read-only mapping of a whole file; unmapped when the last reference goes.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);  // Error io: cannot be opened, or is empty
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  const std::string& path() const { return path_; }
  /// Lets the system forget these bytes' pages (they can be read again): keeps resident memory at one copy.
  void forget(const uint8_t* begin, size_t bytes) const;

 private:
  std::string path_;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

enum class TensorType { f32, f16, bf16, q8_0, q5_0, q5_1, q4_0, q4_1, q6_k, q5_k, q4_k, q3_k, q2_k };

const char* name_of(TensorType type);
/// By its name in lower case; Error unsupported_model lists the known ones.
TensorType tensor_type(const std::string& name);
/// Bytes of `count` elements, −1 where count does not fill the type's blocks.
int64_t stored_bytes(TensorType type, int64_t count);

struct StoredTensor {
  std::string name;
  TensorType type = TensorType::f32;
  std::vector<int64_t> shape;  // torch order
  bool channels_last = false;  // a convolution stored (O, kh, kw, I); shape still says (O, I, kh, kw)
  const uint8_t* data = nullptr;
  size_t bytes = 0;
  const MappedFile* file = nullptr;

  int64_t count() const;
  /// Elements [begin, begin+count) in stored order as float32; both must be multiples of the type's block.
  void read(const Kernels& kernels, int64_t begin, int64_t count, float* out) const;
};

class WeightTable {
 public:
  /// Maps the file; returns its index.
  int add_file(const std::string& path);
  /// Error model_format if the bytes do not lie inside the file or do not fit type and shape.
  void add(const std::string& name, TensorType type, std::vector<int64_t> shape, bool channels_last, int file,
           uint64_t offset, uint64_t bytes);

  bool has(const std::string& name) const;
  /// Error model_shape if it is missing or its shape is another (trailing ones don't count: a 1×1 convolution is a
  /// linear layer).
  const StoredTensor& require(const std::string& name, const std::vector<int64_t>& shape) const;
  /// The stored tensor, whatever its shape; Error model_shape if it is missing.
  const StoredTensor& find(const std::string& name) const;

 private:
  std::vector<std::unique_ptr<MappedFile>> files_;
  std::unordered_map<std::string, StoredTensor> tensors_;
};

/// How much precision a model's products may give up. `automatic` follows the stored weights: float32 stays, 16-bit ones
/// multiply as bfloat16, quantized ones as int8, as far as the CPU has fast instructions for it.
enum class Precision { automatic, f32, bf16, i8 };

/// What a layer's constructor needs: its weights, and where and how to pack them. Counts what it packed.
struct Loader {
  const WeightTable& weights;
  const Kernels& kernels;
  ThreadPool& pool;
  const CancelToken* cancel = nullptr;
  Precision precision = Precision::automatic;
  bool int8_allowed = true;  // false while a component is built whose error would show (the autoencoder)
  size_t packed_bytes = 0;

  /// What a product with weights stored as `type` is computed in; `sensitive` ones never in int8.
  Compute compute_for(TensorType type, bool sensitive) const;

  /// A vector (bias, norm parameters) as float32.
  std::vector<float> vector(const std::string& name, int64_t length);
};

}  // namespace nd
