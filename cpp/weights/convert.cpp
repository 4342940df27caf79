#include "weights/convert.h"

#include <algorithm>

#include "core/error.h"
#include "weights/formats/traits.h"

namespace nd {

namespace {

// Enough work for a task to pay, little enough for quick cancellation.
constexpr int64_t kTaskElements = 1 << 16;

struct Kernel {
  int64_t inputs = 1, taps = 1;
  int64_t size() const { return inputs * taps; }
};

/// One row of the tensor: for a convolution, the kernel of one output channel.
Kernel kernel_of(const StoredTensor& tensor) {
  Kernel kernel;
  const size_t rank = tensor.shape.size();
  if (rank < 2) {
    kernel.inputs = tensor.count();
    return kernel;
  }
  kernel.inputs = tensor.shape[1];
  for (size_t i = 2; i < rank; ++i) kernel.taps *= tensor.shape[i];
  return kernel;
}

/// out[j·rows + i] = x[i·columns + j].
void transpose(const float* x, int64_t rows, int64_t columns, float* out) {
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) out[j * rows + i] = x[i * columns + j];
}

}  // namespace

int64_t conversion_rows(const StoredTensor& tensor) {
  return tensor.shape.size() < 2 ? 1 : tensor.shape[0];
}

int64_t converted_row_bytes(const StoredTensor& tensor, TensorType type, bool channels_last) {
  const Kernel kernel = kernel_of(tensor);
  const TypeTraits& row = traits(type);
  if (!row.encode)
    throw Error(ErrorCode::invalid_argument,
                "Tensor " + tensor.name + " cannot become " + row.name + ", a type that is only read");
  const int64_t run = channels_last || kernel.taps == 1 ? kernel.inputs : tensor.shape.back();
  if (run % row.block != 0)
    throw Error(ErrorCode::invalid_argument, "Tensor " + tensor.name + " has rows of " + std::to_string(run) +
                                                 " elements, which do not fill blocks of " +
                                                 std::to_string(row.block) + " of type " + row.name);
  return kernel.size() / row.block * row.block_bytes;
}

ConversionError convert_rows(const StoredTensor& tensor, TensorType type, bool channels_last, int64_t first,
                             int64_t count, const FloatDecoders& decoders, ThreadPool& pool,
                             const CancelToken* cancel, uint8_t* out) {
  const int64_t row_bytes = converted_row_bytes(tensor, type, channels_last);
  if (first < 0 || count < 0 || count > conversion_rows(tensor) - first)
    throw Error(ErrorCode::invalid_argument, "Tensor " + tensor.name + " has no rows " +
                                                 std::to_string(first) + " to " +
                                                 std::to_string(first + count));
  const Kernel kernel = kernel_of(tensor);
  const TypeTraits& to = traits(type);
  const int64_t size = kernel.size(), rows = std::max<int64_t>(1, kTaskElements / std::max<int64_t>(1, size));
  const bool reorder = kernel.taps > 1 && channels_last != tensor.channels_last;
  std::vector<ConversionError> errors(static_cast<size_t>((count + rows - 1) / rows));

  pool.parallel_for(static_cast<int64_t>(errors.size()), cancel, [&](int64_t task, int) {
    float* before = thread_scratch(static_cast<size_t>(2 * size));
    float* after = before + size;
    ConversionError sum;
    for (int64_t row = task * rows; row < std::min(count, (task + 1) * rows); ++row) {
      tensor.read(decoders, (first + row) * size, size, reorder ? after : before);
      if (reorder && channels_last) transpose(after, kernel.inputs, kernel.taps, before);
      if (reorder && !channels_last) transpose(after, kernel.taps, kernel.inputs, before);
      uint8_t* bytes = out + row * row_bytes;
      to.encode(before, size, bytes);
      to.decode(decoders, bytes, size, after);
      for (int64_t i = 0; i < size; ++i) {
        const double difference = static_cast<double>(after[i]) - before[i];
        sum.squared_error += difference * difference;
        sum.squared_norm += static_cast<double>(before[i]) * before[i];
      }
    }
    errors[static_cast<size_t>(task)] = sum;
  });

  ConversionError total;
  for (const ConversionError& error : errors) {
    total.squared_error += error.squared_error;
    total.squared_norm += error.squared_norm;
  }
  return total;
}

}  // namespace nd
