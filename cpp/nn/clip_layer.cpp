#include "nn/clip_layer.h"

namespace nd {

ClipLayer::ClipLayer(Loader& loader, const std::string& prefix, const ClipLayerOptions& options)
    : activation_(options.activation) {
  const int64_t width = options.width;
  AttentionOptions attention;
  attention.width = width;
  attention.heads = options.heads;
  attention.head_dim = width / options.heads;
  attention.projection_bias = true;
  attention.causal = options.causal;
  attention.role = Role::clip_layer;
  attention.q = "q_proj", attention.k = "k_proj", attention.v = "v_proj", attention.out = "out_proj";
  norm1_ = loader.layer_norm(prefix + "layer_norm1", width, options.layer_norm_eps);
  attention_ = loader.attention(prefix + "self_attn", attention);
  LinearOptions feed_forward;
  feed_forward.role = Role::clip_layer;
  norm2_ = loader.layer_norm(prefix + "layer_norm2", width, options.layer_norm_eps);
  fc1_ = loader.linear(prefix + "mlp.fc1", width, options.intermediate, feed_forward);
  fc2_ = loader.linear(prefix + "mlp.fc2", options.intermediate, width, feed_forward);
}

Tensor ClipLayer::forward(ForwardContext& ctx, Tensor x) const {
  Tensor normed = norm1_->forward(ctx, x);
  x = attention_->forward(ctx, normed, &x);
  normed = norm2_->forward(ctx, x);
  Epilogue activate;
  activate.activation = activation_;
  const Tensor hidden = fc1_->forward(ctx, normed, activate);
  normed.release();
  Epilogue residual;
  residual.residual = &x;
  return fc2_->forward(ctx, hidden, residual);
}

}  // namespace nd
