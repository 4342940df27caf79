// Lookup table of vectors (tokens, positions).
#pragma once
#include <string>
#include <vector>

#include "core/weights.h"
#include "nn/run.h"

namespace nd {

class Embedding {
 public:
  Embedding() = default;
  Embedding(Loader& loader, const std::string& name, int64_t count, int64_t width);
  int64_t count() const { return count_; }
  int64_t width() const { return width_; }
  /// Writes `width` floats; index must lie in [0, count). Error io, where the table is streamed.
  void read(const Kernels& kernels, int64_t index, float* out) const {
    table_.read(kernels, index * width_, width_, out);
  }

 private:
  StoredTensor table_;  // as stored, in memory or in the file: few of its rows are ever read
  int64_t count_ = 0, width_ = 0;
};

}  // namespace nd
