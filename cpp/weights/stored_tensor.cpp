#include "weights/stored_tensor.h"

#include <algorithm>

#include "weights/adapter.h"
#include "weights/formats/traits.h"

namespace nd {

namespace {

constexpr int64_t kMaxBlock = 256;

}  // namespace

int64_t StoredTensor::count() const {
  int64_t product = 1;
  for (const int64_t length : shape) product *= length;
  return product;
}

void StoredTensor::read(const FloatDecoders& decoders, int64_t begin, int64_t elements, float* out) const {
  read_stored(decoders, begin, elements, out);
  if (rows) rows->apply(decoders, begin, elements, out);
}

void StoredTensor::read_stored(const FloatDecoders& decoders, int64_t begin, int64_t elements,
                               float* out) const {
  const int64_t block = traits(type).block, end = begin + elements;
  float* to = out;
  // Of the blocks at both ends, a part.
  const auto read_part = [&](int64_t stop) {
    float whole[kMaxBlock];
    const int64_t skipped = begin % block;
    read_blocks(decoders, begin - skipped, block, whole);
    std::copy(whole + skipped, whole + skipped + (stop - begin), to);
    to += stop - begin;
    begin = stop;
  };
  if (begin % block != 0) read_part(std::min(end, (begin / block + 1) * block));
  const int64_t middle = (end - begin) / block * block;
  read_blocks(decoders, begin, middle, to);
  to += middle;
  begin += middle;
  if (begin < end) read_part(end);
  if (scale != 1.0f)
    for (int64_t i = 0; i < elements; ++i) out[i] *= scale;
}

void StoredTensor::read_blocks(const FloatDecoders& decoders, int64_t begin, int64_t elements,
                               float* out) const {
  const TypeTraits& row = traits(type);
  const uint64_t first = static_cast<uint64_t>(begin / row.block * row.block_bytes);
  if (data) return row.decode(decoders, data.get() + first, elements, out);
  const uint64_t limit = offset + bytes;
  const int64_t piece = static_cast<int64_t>(WeightFile::kBuffer) / row.block_bytes * row.block;
  uint64_t at = offset + first;
  for (int64_t done = 0; done < elements; done += piece) {
    const int64_t count = std::min(piece, elements - done);
    const size_t length = static_cast<size_t>(count / row.block * row.block_bytes);
    row.decode(decoders, file->read(at, length, limit), count, out + done);
    at += length;
  }
}

StoredTensor StoredTensor::transposed(const FloatDecoders& decoders) const {
  const int64_t height = shape[0], width = shape[1];
  std::vector<float> values(static_cast<size_t>(height * width));
  read(decoders, 0, height * width, values.data());
  const auto turned = std::make_shared<std::vector<float>>(values.size());
  for (int64_t i = 0; i < height; ++i)
    for (int64_t j = 0; j < width; ++j)
      (*turned)[static_cast<size_t>(j * height + i)] = values[static_cast<size_t>(i * width + j)];
  StoredTensor result;
  result.name = name;
  result.shape = {width, height};
  result.bytes = turned->size() * sizeof(float);
  result.data = {turned, reinterpret_cast<const uint8_t*>(turned->data())};
  return result;
}

const uint8_t* StoredTensor::blocks(int64_t begin, int64_t elements) const {
  const TypeTraits& row = traits(type);
  const uint64_t first = static_cast<uint64_t>(begin / row.block * row.block_bytes);
  if (data) return data.get() + first;
  return file->read(offset + first, static_cast<size_t>(elements / row.block * row.block_bytes),
                    offset + bytes);
}

}  // namespace nd
