// Group normalisation (Wu & He 2018) and layer normalisation (Ba et al. 2016), biased variance as in PyTorch.
#pragma once
#include <string>
#include <vector>

#include "core/weights.h"
#include "nn/run.h"

namespace nd {

class GroupNorm {
 public:
  GroupNorm() = default;
  GroupNorm(Loader& loader, const std::string& name, int64_t channels, int64_t groups, float eps);

  /// The normalisation of x as one multiplication and addition per channel: [n][2][c], scales, then shifts.
  Feature affine(Run& run, const Feature& x) const;
  /// The normalised x itself, through SiLU when `silu`.
  Feature forward(Run& run, const Feature& x, bool silu = false) const;

 private:
  std::vector<float> gamma_, beta_;
  int64_t groups_ = 1;
  float eps_ = 0;
};

class LayerNorm {
 public:
  LayerNorm() = default;
  LayerNorm(Loader& loader, const std::string& name, int64_t channels, float eps);
  Feature forward(Run& run, const Feature& x) const;

 private:
  std::vector<float> gamma_, beta_;
  float eps_ = 0;
};

}  // namespace nd
