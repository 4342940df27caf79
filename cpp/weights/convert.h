// Rewriting a stored tensor in another type, some rows at a time, so that memory stays bounded whatever its
// size.
#pragma once
#include "core/thread_pool.h"
#include "weights/weight_table.h"

namespace nd {

/// What the conversion lost.
struct ConversionError {
  double squared_error = 0.0;  // Σ (stored anew − before)²; not finite where a value has no place in the type
  double squared_norm = 0.0;  // Σ before²
};

/// A tensor's outermost dimension, over which it can be cut in rows: output channels. Vectors are one row.
int64_t conversion_rows(const StoredTensor& tensor);

/// Bytes of one row as `type`; Error invalid_argument where a row of `tensor` in the order asked for has runs
/// that do not fill the type's blocks. (Blocks run along the innermost dimension: input channels when
/// `channels_last`.)
int64_t converted_row_bytes(const StoredTensor& tensor, TensorType type, bool channels_last);

/// Rows [first, first + count) as `type` to `out`; kernels of convolutions as (kh, kw, I) when
/// `channels_last`, else as (I, kh, kw). The same result whatever the number of threads.
ConversionError convert_rows(const StoredTensor& tensor, TensorType type, bool channels_last, int64_t first,
                             int64_t count, const FloatDecoders& decoders, ThreadPool& pool,
                             const CancelToken* cancel, uint8_t* out);

}  // namespace nd
