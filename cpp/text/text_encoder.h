// Tokens → context: the CLIP text model (Radford et al. 2021), a pre-norm transformer with causal attention.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "nn/clip_layer.h"
#include "nn/loader.h"
#include "nn/workspace.h"

namespace nd {

struct TextEncoderConfig {
  int64_t vocab_size = 49408;
  int64_t width = 768;
  int64_t layers = 12;
  int64_t heads = 12;
  int64_t intermediate = 3072;
  int64_t max_positions = 77;
  Activation activation = Activation::quick_gelu;  // or gelu
  float layer_norm_eps = 1e-5f;
  int64_t projection_width = 0;        // 0: the model has none
  bool projection_transposed = false;  // stored [width][projection_width], as OpenCLIP does

  /// Of the pooled output: of its projection, or of the state itself where there is none.
  int64_t pooled_width() const { return projection_width > 0 ? projection_width : width; }
  /// Error invalid_argument names the invalid field.
  void check() const;
};

/// Tokens on the host, and what of their encoding is wanted.
struct TextInput {
  const int32_t* tokens = nullptr;  // [n][length]
  int64_t n = 0, length = 0;
  int64_t skip = 0;        // last layers that are left out; 1: what is called "clip skip 2"
  bool final_norm = true;  // whether the hidden states go through the final norm; SDXL's do not
  /// The position of each row's end token, [n], whose state is the pooled output; or null.
  const int32_t* pooled_positions = nullptr;
  /// Embeddings of words that are not in the vocabulary, [vector_count][width]: id vocab_size + i stands for
  /// vector i (Gal et al. 2022, "textual inversion").
  const float* vectors = nullptr;
  int64_t vector_count = 0;
};

class TextEncoder {
 public:
  /// Tensor names as in transformers' CLIPTextModel without the `text_model.` prefix.
  /// Errors: invalid_argument (config), model_shape (a tensor is missing or has another shape).
  TextEncoder(const TextEncoderConfig& config, Loader& loader);

  const TextEncoderConfig& config() const { return config_; }

  /// → hidden [n][length][width] and, with pooled positions, pooled [n][pooled_width()]: the state at the end
  /// token after all layers and the final norm, whatever `skip`, projected where the model has a projection.
  /// Error invalid_argument: a token id outside the vocabulary, a length outside 1…max_positions, a skip
  /// outside 0…layers, or a position outside the row. Throws Cancelled.
  void encode(const TextInput& input, float* hidden, float* pooled, const CancelToken* cancel);
  /// Bytes of working memory that encode() takes for n texts.
  size_t working_bytes(int64_t n, int64_t length) const;

  /// Releases working memory; the next call allocates it again.
  void trim() { workspace_.trim(); }

 private:
  void check(const TextInput& input) const;
  void encode(ForwardContext& ctx, const TextInput& input, float* hidden, float* pooled) const;
  Tensor embed(ForwardContext& ctx, const TextInput& input) const;

  TextEncoderConfig config_;
  Backend& backend_;
  std::shared_ptr<const Embedding> token_embedding_, position_embedding_;
  std::vector<ClipLayer> layers_;
  std::shared_ptr<const LayerNorm> final_norm_;
  std::shared_ptr<const Linear> projection_;
  Workspace workspace_;
};

}  // namespace nd
