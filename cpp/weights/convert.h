// Converts a stored tensor to another type, some rows at a time, so that memory stays bounded.
#pragma once
#include "core/thread_pool.h"
#include "weights/weight_table.h"

namespace nd {

/// The error of a conversion.
struct ConversionError {
  double squared_error =
      0.0;  // Σ (converted − original)²; not finite where the type cannot represent a value
  double squared_norm = 0.0;  // Σ original²
};

/// The size of the outermost dimension (output channels), along which a tensor can be cut. A vector is one
/// row.
int64_t conversion_rows(const StoredTensor& tensor);

/// Bytes of one row as `type`. Error invalid_argument where the innermost dimension of a row, in the order
/// asked for, does not fill the type's blocks. (It is the input channels when `channels_last`.)
int64_t converted_row_bytes(const StoredTensor& tensor, TensorType type, bool channels_last);

/// Rows [first, first + count) as `type` to `out`; kernels of convolutions as (kh, kw, I) when
/// `channels_last`, else as (I, kh, kw). The same result whatever the number of threads.
ConversionError convert_rows(const StoredTensor& tensor, TensorType type, bool channels_last, int64_t first,
                             int64_t count, const FloatDecoders& decoders, ThreadPool& pool,
                             const CancelToken* cancel, uint8_t* out);

}  // namespace nd
