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
  /// `width` floats; index must lie in [0, count).
  const float* row(int64_t index) const { return table_.data() + index * width_; }

 private:
  std::vector<float> table_;
  int64_t count_ = 0, width_ = 0;
};

}  // namespace nd
