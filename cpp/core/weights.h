// The checked table of stored tensors that a model is built from, and the files behind it. The table comes
// from JavaScript, which parsed the headers; bounds and sizes are checked here once more.
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

/// An open file. It is read and not mapped: of a mapping, a file that shrinks under it (a download that
/// starts over, a disk that fails) kills the process with SIGBUS, where reading gives an error. The pages
/// that were read belong to the system's cache, so memory holds each weight once, packed.
class WeightFile {
 public:
  explicit WeightFile(const std::string& path);  // Error io: cannot be opened, or is empty
  ~WeightFile();
  WeightFile(const WeightFile&) = delete;
  WeightFile& operator=(const WeightFile&) = delete;

  /// When it was opened.
  uint64_t size() const { return size_; }
  const std::string& path() const { return path_; }
  /// `bytes` bytes from `offset`, at most kBuffer, in memory of the calling thread: valid until its next
  /// call. What follows them up to `limit` is read ahead, as it is most likely wanted next. Error io: cannot
  /// be read, or is not the file any more that was opened.
  const uint8_t* read(uint64_t offset, size_t bytes, uint64_t limit) const;
  static constexpr size_t kBuffer = 128 << 10;

 private:
  void fill(uint64_t offset, size_t bytes, uint8_t* out) const;
  void check_unchanged() const;

  std::string path_;
  int file_ = -1;
  uint64_t size_ = 0;
  int64_t modified_ = 0;  // nanoseconds
  uint64_t id_;           // of this object: addresses are used again
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
  std::shared_ptr<const WeightFile> file;  // stays open as long as anybody reads from it
  uint64_t offset = 0, bytes = 0;
  std::shared_ptr<const uint8_t> data;  // instead of a file: the bytes themselves

  int64_t count() const;
  /// Elements [begin, begin+count) in stored order as float32; both must be multiples of the type's block.
  /// Fast for neighbouring rows one after the other. Error io.
  void read(const Kernels& kernels, int64_t begin, int64_t count, float* out) const;
  /// The same as they are stored: at most WeightFile::kBuffer bytes, valid until the calling thread reads
  /// again.
  const uint8_t* blocks(int64_t begin, int64_t count) const;
};

class WeightTable {
 public:
  /// Opens the file; returns its index.
  int add_file(const std::string& path);
  /// Error model_format if the bytes do not lie inside the file or do not fit type and shape.
  void add(const std::string& name, TensorType type, std::vector<int64_t> shape, bool channels_last, int file,
           uint64_t offset, uint64_t bytes);

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

/// Hands the heap's free memory back to the system: packing weights passes gigabytes through it in pieces.
void give_heap_back();

/// How much precision a model's products may give up. `automatic` follows the stored weights: float32 stays,
/// 16-bit ones multiply as bfloat16, quantized ones as int8, as far as the CPU has fast instructions for it.
enum class Precision { automatic, f32, bf16, i8 };

/// Which matrices are read from their file and packed whenever a layer needs them, and take no memory
/// meanwhile. `rare`: those that work once a picture or less often.
enum class Stream { never, rare, always };

/// What a layer's constructor needs: its weights, and where and how to pack them. Counts what it packed.
struct Loader {
  const WeightTable& weights;
  const Kernels& kernels;
  ThreadPool& pool;
  const CancelToken* cancel = nullptr;
  Precision precision = Precision::automatic;
  Stream stream = Stream::never;
  bool int8_allowed = true;  // false while a component is built whose error would show (the autoencoder)
  size_t packed_bytes = 0;

  /// What a product with weights stored as `type` is computed in; `sensitive` ones never in int8.
  Compute compute_for(TensorType type, bool sensitive) const;

  bool rarely = false;  // while layers are built that work once a picture or less often, see Rarely
  /// Whether matrices that are built now are streamed.
  bool streams() const { return stream == Stream::always || (stream == Stream::rare && rarely); }

  /// A vector (bias, norm parameters) as float32.
  std::vector<float> vector(const std::string& name, int64_t length);
};

/// What is built while one of these lives works once a picture or less often.
class Rarely {
 public:
  explicit Rarely(Loader& loader) : loader_(loader), before_(loader.rarely) { loader.rarely = true; }
  ~Rarely() { loader_.rarely = before_; }
  Rarely(const Rarely&) = delete;
  Rarely& operator=(const Rarely&) = delete;

 private:
  Loader& loader_;
  const bool before_;
};

}  // namespace nd
