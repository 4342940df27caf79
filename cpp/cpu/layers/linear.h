// Linear layers, alone and in pairs with a gated activation between.
#pragma once
#include <vector>

#include "weights/weight_table.h"
#include "cpu/context.h"
#include "cpu/layers/product.h"
#include "nn/layers.h"
#include "nn/loader.h"

namespace nd::cpu {

/// The epilogue of a layer as kernels take it, with pointers to the tensors. The caller sets the output and
/// the bias.
GemmEpilogue kernel_epilogue(const Epilogue& epilogue);

class Linear final : public nd::Linear {
 public:
  Linear() = default;
  Linear(const Device& device, Loader& loader, LinearWeights weights, const LinearOptions& options);

  Tensor forward(ForwardContext& base, const Tensor& x, const Epilogue& epilogue = {}) const override;
  Tensor forward_in_place(ForwardContext& base, Tensor x) const override;

  Compute compute() const { return weights_.compute(); }

 private:
  friend class FeedForward;
  void multiply(Context& ctx, const Panels& weights, const float* x, int64_t rows,
                GemmEpilogue epilogue) const;
  void count(Context& ctx, int64_t rows) const;

  PackedMatrix weights_;
  std::vector<float> bias_;
  bool geglu_ = false;
};

/// Computes some rows at a time, as the activations between the two layers are several times as wide.
class FeedForward final : public nd::FeedForward {
 public:
  FeedForward(const Device& device, Loader& loader, LinearWeights in, LinearWeights out);
  void add_to(ForwardContext& base, const Tensor& normed, const Tensor& x) const override;

 private:
  Linear in_, out_;
};

}  // namespace nd::cpu
