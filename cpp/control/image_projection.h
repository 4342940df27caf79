// An image's embedding → the tokens that a UNet attends to: the projections of IP-Adapter (Ye et al. 2023).
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "nn/loader.h"

namespace nd {

struct ImageProjectionConfig {
  enum class Kind {
    linear,     // one matrix and a norm
    mlp,        // two matrices with GELU between them and a norm
    resampler,  // queries that attend to all tokens of an image (Alayrac et al. 2022, "Perceiver Resampler")
    face_resampler,  // the same with queries made of the embedding of a face (FaceID Plus)
  };
  Kind kind = Kind::linear;
  int64_t width = 0;          // of an embedding's tokens
  int64_t context_width = 0;  // of the result's
  /// Resamplers: tokens of the result. Others: tokens that each token of an embedding becomes.
  int64_t tokens = 4;
  int64_t hidden = 0;  // mlp: between its matrices; resamplers: of its queries
  // Resamplers.
  int64_t layers = 0, heads = 1, head_dim = 64;
  int64_t intermediate = 0;  // of its feed-forward networks
  // With faces: of a face's embedding, and between the matrices that make queries of it.
  int64_t face_width = 0, face_hidden = 0;
  bool shortcut = false;  // whether the queries are added to the result (FaceID Plus v2)

  bool resamples() const { return kind == Kind::resampler || kind == Kind::face_resampler; }
  /// Tokens of the result for an embedding of `rows` tokens.
  int64_t length(int64_t rows) const { return resamples() ? tokens : rows * tokens; }

  /// Error invalid_argument names the invalid field.
  void check() const;
};

class ImageProjection {
 public:
  /// linear: `proj`, `norm`; mlp: `proj.0`, `proj.2`, `norm`; resampler: `latents` [tokens][hidden],
  /// `proj_in`, `layers.0.0.norm1`, `…norm2`, `…to_q`, `…to_k`, `…to_v`, `…to_out`, `layers.0.1.0` (norm),
  /// `layers.0.1.1`, `layers.0.1.3`, …, `proj_out`, `norm_out`; face_resampler: those of an mlp, and those of
  /// a resampler but `latents` below `perceiver_resampler.`; all below `prefix`. Errors: invalid_argument
  /// (config), model_shape.
  ImageProjection(const ImageProjectionConfig& config, Loader& loader, const std::string& prefix);

  /// embeddings [n][1][rows][width] and, of a face_resampler, faces [n][1][1][face_width] →
  /// [n][1][length(rows)][context_width].
  Tensor forward(ForwardContext& ctx, const Tensor& embeddings, const Tensor* faces) const;

 private:
  struct Layer {
    std::shared_ptr<const LayerNorm> image_norm, query_norm, norm;
    std::shared_ptr<const Attention> attention;
    std::shared_ptr<const Linear> in, out;
  };
  void load_resampler(Loader& loader, const std::string& prefix);
  Tensor learned_queries(ForwardContext& ctx, int64_t n) const;
  Tensor face_queries(ForwardContext& ctx, const Tensor& faces) const;
  Tensor resample(ForwardContext& ctx, const Tensor& embeddings, const Tensor& first) const;
  Tensor attend(ForwardContext& ctx, const Layer& layer, const Tensor& image, const Tensor& queries) const;

  ImageProjectionConfig config_;
  std::shared_ptr<const Linear> in_, out_, face_in_, face_out_;
  std::shared_ptr<const Embedding> queries_;
  std::vector<Layer> layers_;
  std::shared_ptr<const LayerNorm> norm_, face_norm_;
};

}  // namespace nd
