// Random weights for models of real size.
#pragma once
#include <string>
#include <vector>

#include "nn/loader.h"
#include "weights/weight_table.h"

namespace nd::cuda_bench {

/// Random weights under a model's names, scaled so that activations keep their size. Tensors with as many
/// inputs share the same numbers, so that the file stays small.
class RandomWeights {
 public:
  /// Matrices and kernels whose rows fill blocks are of type `type`, but for those that quantizing a model
  /// keeps; all else is f16.
  explicit RandomWeights(const std::vector<RequiredTensor>& list, TensorType type = TensorType::f16);
  ~RandomWeights();
  RandomWeights(const RandomWeights&) = delete;
  RandomWeights& operator=(const RandomWeights&) = delete;
  const WeightTable& table() const { return table_; }

 private:
  std::string path_;
  WeightTable table_;
};

}  // namespace nd::cuda_bench
