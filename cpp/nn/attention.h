// Multi-head attention (Vaswani et al. 2017) with its projections.
#pragma once
#include <string>

#include "nn/linear.h"
#include "nn/norm.h"

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

/// Where the keys and values of each image's context lie, as Attention::pack left them.
struct PackedContext {
  const float* const* images = nullptr;  // [n]; null while measuring
  int64_t offset = 0;                    // floats from there to this attention's own
  int64_t length = 0;                    // tokens
};

class Attention {
 public:
  Attention() = default;
  Attention(Loader& loader, const std::string& prefix, const AttentionOptions& options);

  /// Self-attention. x: [n][h][w][width]; + residual.
  Feature forward(Run& run, const Feature& x, const Feature* residual) const;
  /// Cross-attention. x: [n][h][w][width] attends to the context; + residual.
  Feature forward(Run& run, const Feature& x, const PackedContext& context, const Feature* residual) const;

  /// Floats that pack() writes for one image; a multiple of 16, so that they stay aligned.
  int64_t packed_floats(const Kernels& table, int64_t length) const;
  /// Keys and values of context [n][1][length][context_width] in the form that cross-attention reads, those
  /// of image i to images[i] + offset.
  void pack(Run& run, const Feature& context, float* const* images, int64_t offset) const;

  /// Self-attention of norm(x), + x, written over x: [1][h][w][width]. Queries are made in bands, so that
  /// only keys and values exist for all of x: at 256×256 pixels of 512 channels that spares 670 MB.
  Feature forward_onto(Run& run, const GroupNorm& norm, Feature x) const;

 private:
  int64_t inner() const { return options_.heads * options_.head_dim; }
  Compute multiplies(const Kernels& table) const;
  LowAttention kernels(const Kernels& table) const;
  /// Keys and values side by side, from `keys_and_values` on in rows of `ld` floats.
  AttentionArgs arguments(const float* keys_and_values, int64_t ld, int64_t length) const;
  /// packed(image): the keys and values of all heads of an image.
  template <class Packed>
  Feature attend(Run& run, const Feature& x, const AttentionArgs& args, const Packed& packed) const;

  AttentionOptions options_;
  Linear qkv_;     // self-attention: q, k, v side by side
  Linear q_, kv_;  // cross-attention
  Linear out_;
};

}  // namespace nd
