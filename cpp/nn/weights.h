// The stored weights of one layer, checked and ready to be packed by a backend.
#pragma once
#include <vector>

#include "nn/compute.h"
#include "weights/weight_table.h"

namespace nd {

/// One or several matrices of [out_each][in] whose outputs lie side by side in one product (q, k, v).
struct LinearWeights {
  std::vector<StoredTensor> matrices;
  std::vector<float> bias;  // [out], or empty
  int64_t in = 0, out_each = 0;
  Compute compute = Compute::f32;
  float scale = 1;  // of the product before the bias; not 1 only where Backend::wide_unit() is not

  int64_t out() const { return out_each * static_cast<int64_t>(matrices.size()); }
};

struct Conv2dWeights {
  StoredTensor kernel;
  std::vector<float> bias;  // [out], or empty
  int64_t in = 0, out = 0;
  Compute compute = Compute::f32;
  bool winograd = false;  // by minimal filtering, see PrecisionPolicy::convolution
  float scale = 1;        // as that of LinearWeights
};

struct NormWeights {
  std::vector<float> gamma, beta;
};

/// Self-attention has q, k and v side by side in `queries`; cross-attention has k and v in `keys_values`.
struct AttentionWeights {
  LinearWeights queries, keys_values, out;
};

}  // namespace nd
