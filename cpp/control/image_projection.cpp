#include "control/image_projection.h"

#include <utility>

#include "core/require.h"

namespace nd {
namespace {

constexpr float kLayerNormEps = 1e-5f;

using Kind = ImageProjectionConfig::Kind;

}  // namespace

void ImageProjectionConfig::check() const {
  require(width >= 1 && context_width >= 1 && tokens >= 1,
          "Expected an image projection's width, contextWidth and tokens of at least 1");
  require(kind == Kind::linear || hidden >= 1, "Expected an image projection's hidden of at least 1");
  require(!resamples() || (layers >= 0 && heads >= 1 && head_dim >= 1 && intermediate >= 1),
          "Expected a resampler's heads, headDim and intermediate of at least 1");
  require(kind != Kind::face_resampler || (face_width >= 1 && face_hidden >= 1),
          "Expected a resampler's faceWidth and faceHidden of at least 1");
  require(!shortcut || (kind == Kind::face_resampler && hidden == context_width),
          "Expected a face resampler whose hidden is its contextWidth for a shortcut");
}

ImageProjection::ImageProjection(const ImageProjectionConfig& config, Loader& loader,
                                 const std::string& prefix)
    : config_(config) {
  config.check();
  const int64_t out = config.tokens * config.context_width;
  if (config.kind == Kind::resampler) {
    queries_ = loader.embedding(prefix + "latents", config.tokens, config.hidden);
    load_resampler(loader, prefix);
    return;
  }
  if (config.kind == Kind::face_resampler) {
    const int64_t hidden = config.hidden;
    face_in_ = loader.linear(prefix + "proj.0", config.face_width, config.face_hidden);
    face_out_ = loader.linear(prefix + "proj.2", config.face_hidden, config.tokens * hidden);
    face_norm_ = loader.layer_norm(prefix + "norm", hidden, kLayerNormEps);
    load_resampler(loader, prefix + "perceiver_resampler.");
    return;
  }
  if (config.kind == Kind::linear) {
    out_ = loader.linear(prefix + "proj", config.width, out);
  } else {
    in_ = loader.linear(prefix + "proj.0", config.width, config.hidden);
    out_ = loader.linear(prefix + "proj.2", config.hidden, out);
  }
  norm_ = loader.layer_norm(prefix + "norm", config.context_width, kLayerNormEps);
}

void ImageProjection::load_resampler(Loader& loader, const std::string& prefix) {
  const int64_t hidden = config_.hidden;
  AttentionOptions attention;
  attention.width = attention.context_width = hidden;
  attention.heads = config_.heads;
  attention.head_dim = config_.head_dim;
  attention.output_bias = false;
  attention.out = "to_out";
  LinearOptions no_bias;
  no_bias.bias = false;
  in_ = loader.linear(prefix + "proj_in", config_.width, hidden);
  for (int64_t i = 0; i < config_.layers; ++i) {
    const std::string name = prefix + "layers." + std::to_string(i);
    Layer layer;
    layer.image_norm = loader.layer_norm(name + ".0.norm1", hidden, kLayerNormEps);
    layer.query_norm = loader.layer_norm(name + ".0.norm2", hidden, kLayerNormEps);
    layer.attention = loader.attention(name + ".0", attention);
    layer.norm = loader.layer_norm(name + ".1.0", hidden, kLayerNormEps);
    layer.in = loader.linear(name + ".1.1", hidden, config_.intermediate, no_bias);
    layer.out = loader.linear(name + ".1.3", config_.intermediate, hidden, no_bias);
    layers_.push_back(std::move(layer));
  }
  out_ = loader.linear(prefix + "proj_out", hidden, config_.context_width);
  norm_ = loader.layer_norm(prefix + "norm_out", config_.context_width, kLayerNormEps);
}

/// The queries attend to the image's tokens and to themselves, + queries.
Tensor ImageProjection::attend(ForwardContext& ctx, const Layer& layer, const Tensor& image,
                               const Tensor& queries) const {
  Backend& backend = ctx.backend;
  const Tensor normed_queries = layer.query_norm->forward(ctx, queries);
  const int64_t n = image.n, rows = image.pixels(), own = queries.pixels(), length = rows + own;
  // The arena aligns what it gives, and the bytes of each image are a multiple of that.
  const size_t bytes = layer.attention->packed_bytes(length), element = backend.element_bytes();
  const Tensor packed(ctx, n, 1, 1, static_cast<int64_t>((bytes + element - 1) / element));
  std::vector<Address> images;
  for (int64_t i = 0; i < n; ++i) images.push_back(packed.address() + static_cast<size_t>(i) * bytes);
  {
    const Tensor all(ctx, n, 1, length, image.c);
    const Tensor normed = layer.image_norm->forward(ctx, image);
    for (int64_t i = 0; i < n; ++i) {
      backend.copy_rows(ctx, normed, i * rows, all, i * length, rows);
      backend.copy_rows(ctx, normed_queries, i * own, all, i * length + rows, own);
    }
    layer.attention->pack(ctx, all, images.data(), 0);
  }
  const PackedContext context{images.data(), 0, length};
  return layer.attention->forward(ctx, normed_queries, context, {}, &queries);
}

/// The same queries for each of n images.
Tensor ImageProjection::learned_queries(ForwardContext& ctx, int64_t n) const {
  std::vector<int32_t> ids(static_cast<size_t>(n * config_.tokens));
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<int32_t>(static_cast<int64_t>(i) % config_.tokens);
  return queries_->forward(ctx, ids.data(), n, config_.tokens);
}

Tensor ImageProjection::face_queries(ForwardContext& ctx, const Tensor& faces) const {
  Epilogue activate;
  activate.activation = Activation::gelu;
  const Tensor x = face_out_->forward(ctx, face_in_->forward(ctx, faces, activate));
  return face_norm_->forward(ctx, Tensor::borrowed(x.address(), x.n, 1, config_.tokens, config_.hidden));
}

Tensor ImageProjection::resample(ForwardContext& ctx, const Tensor& embeddings, const Tensor& first) const {
  const Tensor image = in_->forward(ctx, embeddings);
  const Tensor* queries = &first;
  Tensor last;
  Epilogue activate;
  activate.activation = Activation::gelu;
  for (const Layer& layer : layers_) {
    last = attend(ctx, layer, image, *queries);
    Tensor normed = layer.norm->forward(ctx, last);
    const Tensor hidden = layer.in->forward(ctx, normed, activate);
    normed.release();
    Epilogue residual;
    residual.residual = &last;
    last = layer.out->forward(ctx, hidden, residual);
    queries = &last;
  }
  return norm_->forward(ctx, out_->forward(ctx, *queries));
}

Tensor ImageProjection::forward(ForwardContext& ctx, const Tensor& embeddings, const Tensor* faces) const {
  if (config_.kind == Kind::resampler) return resample(ctx, embeddings, learned_queries(ctx, embeddings.n));
  if (config_.kind == Kind::face_resampler) {
    const Tensor queries = face_queries(ctx, *faces);
    Tensor tokens = resample(ctx, embeddings, queries);
    if (config_.shortcut) ctx.backend.add_rows(ctx, queries, 0, tokens, 0, queries.rows(), 1.0f, false);
    return tokens;
  }
  Tensor x;
  if (in_) {
    Epilogue activate;
    activate.activation = Activation::gelu;
    x = out_->forward(ctx, in_->forward(ctx, embeddings, activate));
  } else {
    x = out_->forward(ctx, embeddings);
  }
  // The columns of a row are its tokens one after the other.
  const Tensor tokens =
      Tensor::borrowed(x.address(), x.n, 1, config_.length(embeddings.pixels()), config_.context_width);
  return norm_->forward(ctx, tokens);
}

}  // namespace nd
