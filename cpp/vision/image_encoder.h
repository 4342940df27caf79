// Image → embedding: the CLIP image model (Radford et al. 2021), a vision transformer (Dosovitskiy et al.
// 2021) with a norm before its layers.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "nn/clip_layer.h"
#include "nn/loader.h"
#include "nn/workspace.h"

namespace nd {

struct ImageEncoderConfig {
  int64_t image_size = 224;  // pixels along each side
  int64_t patch_size = 14;
  int64_t channels = 3;
  int64_t width = 1024;
  int64_t layers = 24;
  int64_t heads = 16;
  int64_t intermediate = 4096;
  Activation activation = Activation::quick_gelu;  // or gelu
  float layer_norm_eps = 1e-5f;
  int64_t projection_width = 768;
  bool projection_transposed = false;  // stored [width][projection_width], as OpenCLIP does

  /// Patches along each side.
  int64_t grid() const { return image_size / patch_size; }
  /// Tokens of an image: one for the whole, then its patches row by row.
  int64_t length() const { return 1 + grid() * grid(); }

  /// Error invalid_argument names the invalid field.
  void check() const;
};

class ImageEncoder {
 public:
  /// Tensor names as in transformers' CLIPVisionModelWithProjection without the `vision_model.` prefix.
  /// Errors: invalid_argument (config), model_shape (a tensor is missing or has another shape).
  ImageEncoder(const ImageEncoderConfig& config, Loader& loader);

  const ImageEncoderConfig& config() const { return config_; }

  /// Images [n][channels][image_size][image_size], normalized as CLIP's are. → hidden
  /// [n][length()][width]: the states before the last `skip` layers, without the final norm; or embedding
  /// [n][projection_width]: the projection of the first token after all layers and the final norm. Either may
  /// be null. Error invalid_argument: n < 1, or a skip outside 0…layers. Throws Cancelled.
  void encode(const float* images, int64_t n, int64_t skip, float* hidden, float* embedding,
              const CancelToken* cancel);

  /// Bytes of working memory that such a call needs for both outputs, computed without allocating it.
  size_t working_bytes(int64_t n) const;

  /// Releases working memory; the next call allocates it again.
  void trim() { workspace_.trim(); }

 private:
  Tensor embed(ForwardContext& ctx, const float* images, int64_t n) const;
  void encode(ForwardContext& ctx, const float* images, int64_t n, int64_t skip, float* hidden,
              float* embedding) const;

  ImageEncoderConfig config_;
  Backend& backend_;
  std::shared_ptr<const Embedding> class_embedding_, position_embedding_;
  std::shared_ptr<const Conv2d> patch_embedding_;
  std::shared_ptr<const LayerNorm> norm_in_, norm_out_;
  std::vector<ClipLayer> layers_;
  std::shared_ptr<const Linear> projection_;
  Workspace workspace_;
};

}  // namespace nd
