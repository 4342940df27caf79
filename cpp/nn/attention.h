// Multi-head attention (Vaswani et al. 2017) with its projections.
#pragma once
#include <string>

#include "nn/linear.h"

namespace nd {

struct AttentionOptions {
  int64_t width = 0;          // of x and of the output
  int64_t context_width = 0;  // 0: self-attention
  int64_t heads = 1;
  int64_t head_dim = 0;          // heads · head_dim is the inner width
  bool projection_bias = false;  // of q, k and v; the output projection always has one
  bool causal = false;
  const char *q = "to_q", *k = "to_k", *v = "to_v", *out = "to_out.0";
};

class Attention {
 public:
  Attention() = default;
  Attention(Loader& loader, const std::string& prefix, const AttentionOptions& options);

  /// x: [n][h][w][width] attends to itself, or to context [n][1][length][context_width]; + residual.
  Feature forward(Run& run, const Feature& x, const Feature* context, const Feature* residual) const;

 private:
  LowAttention kernels(const Kernels& table) const;

  AttentionOptions options_;
  Linear qkv_;     // self-attention: q, k, v side by side
  Linear q_, kv_;  // cross-attention
  Linear out_;
};

}  // namespace nd
