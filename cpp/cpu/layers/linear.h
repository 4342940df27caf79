// The linear layer.
#pragma once
#include <vector>

#include "weights/weight_table.h"
#include "cpu/context.h"
#include "cpu/layers/packed_matrix.h"
#include "nn/layers.h"
#include "nn/loader.h"

namespace nd::cpu {

/// What a product's epilogue is at the level of kernels: pointers of one forward's tensors.
void set_epilogue(const Epilogue& epilogue, ReducedGemmArgs& args);

class Linear final : public nd::Linear {
 public:
  Linear() = default;
  Linear(const Device& device, Loader& loader, LinearWeights weights, const LinearOptions& options);

  Tensor forward(ForwardContext& ctx, const Tensor& x, const Epilogue& epilogue = {}) const override;
  Tensor forward_in_place(ForwardContext& ctx, Tensor x) const override;

  Compute compute() const { return weights_.compute(); }

 private:
  friend class FeedForward;
  void multiply(Context& ctx, const Panels& weights, const float* x, ReducedGemmArgs args) const;

  PackedMatrix weights_;
  std::vector<float> bias_;
  bool geglu_ = false;
};

/// Some rows at a time, as what lies between the two layers is several times as wide.
class FeedForward final : public nd::FeedForward {
 public:
  FeedForward(const Device& device, Loader& loader, LinearWeights in, LinearWeights out);
  void add_to(ForwardContext& ctx, const Tensor& normed, const Tensor& x) const override;

 private:
  Linear in_, out_;
};

}  // namespace nd::cpu
