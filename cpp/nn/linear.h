// The linear layer.
#pragma once
#include <string>
#include <vector>

#include "core/weights.h"
#include "nn/packed_matrix.h"
#include "nn/run.h"

namespace nd {

/// What is fused into the product's epilogue: + bias, + image_bias, activation, + residual.
struct Fuse {
  const Feature* residual = nullptr;  // same shape as the output
  const float* image_bias = nullptr;  // [n][image_bias_stride]: one vector per image (the timestep embedding)
  int64_t image_bias_stride = 0;
  Activation activation = Activation::none;
  bool relu_sum = false;  // convolutions only: ReLU behind the residual
};

struct LinearOptions {
  bool bias = true;
  bool sensitive = false;  // never int8
  bool geglu =
      false;  // out rows are values, then gates (as torch's chunk(2)); the layer's output has out/2 columns
};

/// y = x·Wᵀ + b over the last dimension. Several names: their outputs side by side in one product (q, k, v).
class Linear {
 public:
  Linear() = default;
  Linear(Loader& loader, const std::string& name, int64_t in, int64_t out, LinearOptions options = {});
  Linear(Loader& loader, const std::vector<std::string>& names, int64_t in, int64_t out_each,
         LinearOptions options = {});

  /// x: [n][h][w][in] → [n][h][w][out]
  Feature forward(Run& run, const Feature& x, const Fuse& fuse = {}) const;

  Compute compute() const { return weights_.compute(); }
  /// The same, written over x (out ≤ in): for activations of which two copies would be too much.
  Feature forward_in_place(Run& run, Feature x) const;
  /// x += last(first(normed)), some rows at a time, as what lies between the two is several times as wide.
  static void add_through(Run& run, const Linear& first, const Linear& last, const Feature& normed,
                          const Feature& x);

 private:
  void multiply(Run& run, const Panels& weights, const float* x, LowGemmArgs args) const;

  PackedMatrix weights_;
  std::vector<float> bias_;
  bool geglu_ = false;
};

}  // namespace nd
