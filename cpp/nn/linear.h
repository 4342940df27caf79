// The linear layer and the packed weight matrix that it shares with the convolution.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/weights.h"
#include "nn/run.h"

namespace nd {

/// What is fused into the product's epilogue: + bias, + image_bias, activation, + residual.
struct Fuse {
  const Feature* residual = nullptr;      // same shape as the output
  const float* image_bias = nullptr;      // [n][image_bias_stride]: one vector per image (the timestep embedding)
  int64_t image_bias_stride = 0;
  Activation activation = Activation::none;
};

/// n×k weights in the panels of a kernel table. 64-byte aligned, zero-padded to whole panels.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  /// fill(row, out) writes the k floats of one output row; called from the pool's threads, each row once.
  PackedMatrix(Loader& loader, int64_t n, int64_t k, const std::function<void(int64_t, float*)>& fill);

  int64_t n = 0, k = 0;
  const float* data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(float* p) const;
  };
  std::unique_ptr<float[], Free> data_;
};

struct LinearOptions {
  bool bias = true;
  bool geglu = false;  // out rows are values, then gates (as torch's chunk(2)); the layer's output has out/2 columns
};

/// y = x·Wᵀ + b over the last dimension. Several names: their outputs side by side in one product (q, k, v).
class Linear {
 public:
  Linear() = default;
  Linear(Loader& loader, const std::string& name, int64_t in, int64_t out, LinearOptions options = {});
  Linear(Loader& loader, const std::vector<std::string>& names, int64_t in, int64_t out_each, LinearOptions options = {});

  /// x: [n][h][w][in] → [n][h][w][out]
  Feature forward(Run& run, const Feature& x, const Fuse& fuse = {}) const;

 private:
  PackedMatrix weights_;
  std::vector<float> bias_;
  bool geglu_ = false;
};

/// Cuts a product into tasks of the same shape whatever the number of threads, and runs them.
void run_gemm(Run& run, const GemmArgs& args);

}  // namespace nd
