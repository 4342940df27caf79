// Tokens → context: the CLIP text model (Radford et al. 2021), a pre-norm transformer with causal attention.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

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

  /// Error invalid_argument names the invalid field.
  void check() const;
};

class TextEncoder {
 public:
  /// Tensor names as in transformers' CLIPTextModel without the `text_model.` prefix.
  /// Errors: invalid_argument (config), model_shape (a tensor is missing or has another shape).
  TextEncoder(const TextEncoderConfig& config, Loader& loader);

  const TextEncoderConfig& config() const { return config_; }

  /// tokens [n][length] → out [n][length][width]: hidden states after the final norm, leaving out the last
  /// `skip` layers (0: all layers run; 1: what is called "clip skip 2"). Error invalid_argument: a token id
  /// outside the vocabulary, a length outside 1…max_positions, a skip outside 0…layers. Throws Cancelled.
  void encode(const int32_t* tokens, int64_t n, int64_t length, int64_t skip, float* out,
              const CancelToken* cancel);

  /// Releases working memory; the next call allocates it again.
  void trim() { workspace_.trim(); }

 private:
  struct Layer {
    std::unique_ptr<LayerNorm> norm1, norm2;
    std::unique_ptr<Attention> attention;
    std::unique_ptr<Linear> fc1, fc2;
  };

  TextEncoderConfig config_;
  std::unique_ptr<Embedding> token_embedding_, position_embedding_;
  std::vector<Layer> layers_;
  std::unique_ptr<LayerNorm> final_norm_;
  Workspace workspace_;
};

}  // namespace nd
