// A tensor of a model's file, and how its elements are read.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "weights/tensor_type.h"
#include "weights/weight_file.h"

namespace nd {

struct Adapter;
class AdaptedRows;

struct StoredTensor {
  std::string name;
  TensorType type = TensorType::f32;
  std::vector<int64_t> shape;  // torch order
  bool channels_last = false;  // a convolution stored (O, kh, kw, I); shape still says (O, I, kh, kw)
  std::shared_ptr<const WeightFile> file;  // open for as long as any tensor refers to it
  uint64_t offset = 0, bytes = 0;
  float scale = 1.0f;                   // a factor of all elements, that of f8 weights
  std::shared_ptr<const uint8_t> data;  // the bytes themselves, instead of a file
  /// What adapter files change in this tensor, or null. Its stored bytes are then not what layers use.
  std::shared_ptr<const std::vector<Adapter>> adapters;
  /// The same, ready to be applied: see adapted().
  std::shared_ptr<const AdaptedRows> rows;

  int64_t count() const;
  /// Elements [begin, begin + elements) in stored order as float32, adapters applied; with adapters, both
  /// must be multiples of a row. Blocks may run across rows. Reading consecutive rows is fast. Error io.
  void read(const FloatDecoders& decoders, int64_t begin, int64_t elements, float* out) const;
  /// The same without adapters.
  void read_stored(const FloatDecoders& decoders, int64_t begin, int64_t elements, float* out) const;
  /// A matrix [rows][columns] as [columns][rows] of float32 in memory, adapters applied. Error io.
  StoredTensor transposed(const FloatDecoders& decoders) const;
  /// The same as read_stored() in the stored type and without the scale: whole blocks of at most
  /// WeightFile::kBuffer bytes, valid until the calling thread reads again.
  const uint8_t* blocks(int64_t begin, int64_t elements) const;

 private:
  void read_blocks(const FloatDecoders& decoders, int64_t begin, int64_t elements, float* out) const;
};

}  // namespace nd
