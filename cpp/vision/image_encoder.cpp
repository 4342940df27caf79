#include "vision/image_encoder.h"

#include <string>
#include <utility>

#include "core/require.h"

namespace nd {
void ImageEncoderConfig::check() const {
  require(width >= 1 && intermediate >= 1 && layers >= 0 && channels >= 1 && projection_width >= 1,
          "Expected an image encoder's width, intermediate, channels and projectionWidth of at least 1 and "
          "layers of at least 0");
  require(heads >= 1 && width % heads == 0, "Expected an image encoder's heads to divide its width " +
                                                std::to_string(width) + " but received " +
                                                std::to_string(heads));
  require(
      patch_size >= 1 && image_size >= patch_size && image_size <= 64 * patch_size,
      "Expected between 1 and 64 patches of an image encoder's patchSize along its imageSize but received " +
          std::to_string(patch_size) + " and " + std::to_string(image_size));
  require(activation == Activation::quick_gelu || activation == Activation::gelu,
          "Expected an image encoder's activation to be quick_gelu or gelu");
}

ImageEncoder::ImageEncoder(const ImageEncoderConfig& config, Loader& loader)
    : config_(config), backend_(loader.backend()), workspace_(loader.backend()) {
  config.check();
  const int64_t width = config.width;
  class_embedding_ = loader.vector_embedding("embeddings.class_embedding", width);
  Conv2dOptions patches;
  patches.kernel = patches.stride = static_cast<int>(config.patch_size);
  patches.pad_before = patches.pad_after = 0;
  patches.bias = false;
  patch_embedding_ = loader.conv2d("embeddings.patch_embedding", config.channels, width, patches);
  position_embedding_ = loader.embedding("embeddings.position_embedding.weight", config.length(), width);
  norm_in_ = loader.layer_norm("pre_layrnorm", width, config.layer_norm_eps);  // transformers' spelling
  layers_ = load_clip_layers(loader, config, false);
  norm_out_ = loader.layer_norm("post_layernorm", width, config.layer_norm_eps);
  LinearOptions projection;
  projection.bias = false;
  projection.transposed = config.projection_transposed;
  projection_ = loader.linear("visual_projection", width, config.projection_width, projection);
}

Tensor ImageEncoder::embed(ForwardContext& ctx, const float* images, int64_t n) const {
  const int64_t size = config_.image_size, length = config_.length();
  Tensor patches;
  {
    const Tensor pixels = backend_.from_planar(ctx, images, n, config_.channels, size, size);
    patches = patch_embedding_->forward(ctx, pixels);
  }
  Tensor x(ctx, n, 1, length, config_.width);
  {
    const std::vector<int32_t> first(static_cast<size_t>(n), 0);
    const Tensor whole = class_embedding_->forward(ctx, first.data(), n, 1);
    for (int64_t i = 0; i < n; ++i) {
      backend_.copy_rows(ctx, whole, i, x, i * length, 1);
      backend_.copy_rows(ctx, patches, i * (length - 1), x, i * length + 1, length - 1);
    }
  }
  patches.release();
  std::vector<int32_t> positions(static_cast<size_t>(n * length));
  for (int64_t i = 0; i < n * length; ++i)
    positions[static_cast<size_t>(i)] = static_cast<int32_t>(i % length);
  position_embedding_->add_to(ctx, positions.data(), x);
  return norm_in_->forward(ctx, x);
}

void ImageEncoder::encode(ForwardContext& ctx, const float* images, int64_t n, int64_t skip, float* hidden,
                          float* embedding) const {
  Tensor x = embed(ctx, images, n);
  const size_t wanted = layers_.size() - static_cast<size_t>(skip);
  for (size_t i = 0; i < wanted; ++i) x = layers_[i].forward(ctx, std::move(x));
  if (hidden) backend_.get(ctx, x, hidden);
  if (!embedding) return;
  for (size_t i = wanted; i < layers_.size(); ++i) x = layers_[i].forward(ctx, std::move(x));
  const Tensor first(ctx, n, 1, 1, config_.width);
  for (int64_t i = 0; i < n; ++i) backend_.copy_rows(ctx, x, i * config_.length(), first, i, 1);
  const Tensor normed = norm_out_->forward(ctx, first);
  backend_.get(ctx, projection_->forward(ctx, normed), embedding);
}

void ImageEncoder::encode(const float* images, int64_t n, int64_t skip, float* hidden, float* embedding,
                          const CancelToken* cancel) {
  require(n >= 1, "Expected at least 1 image but received " + std::to_string(n));
  require(skip >= 0 && skip <= config_.layers, "Expected between 0 and " + std::to_string(config_.layers) +
                                                   " layers to skip but received " + std::to_string(skip));
  workspace_.run(cancel, [&](ForwardContext& ctx) { encode(ctx, images, n, skip, hidden, embedding); });
}

size_t ImageEncoder::working_bytes(int64_t n) const {
  float any = 0;  // measuring writes nothing
  return Workspace::measure(backend_,
                            [&](ForwardContext& ctx) { encode(ctx, nullptr, n, 0, nullptr, &any); });
}

}  // namespace nd
