#include "text/text_encoder.h"

#include <algorithm>
#include <string>

#include "core/error.h"

namespace nd {
namespace {

void require(bool holds, const std::string& message) {
  if (!holds) throw Error(ErrorCode::invalid_argument, message);
}

}  // namespace

void TextEncoderConfig::check() const {
  require(vocab_size >= 1,
          "Expected a text encoder's vocabSize of at least 1 but received " + std::to_string(vocab_size));
  require(width >= 1 && intermediate >= 1 && layers >= 0 && max_positions >= 1,
          "Expected a text encoder's width, intermediate and maxPositions of at least 1 and layers of at "
          "least 0");
  require(heads >= 1 && width % heads == 0, "Expected a text encoder's heads to divide its width " +
                                                std::to_string(width) + " but received " +
                                                std::to_string(heads));
  require(activation == Activation::quick_gelu || activation == Activation::gelu,
          "Expected a text encoder's activation to be quick_gelu or gelu");
}

TextEncoder::TextEncoder(const TextEncoderConfig& config, Loader& loader)
    : config_(config), kernels_(loader.kernels) {
  config.check();
  token_embedding_ = Embedding(loader, "embeddings.token_embedding.weight", config.vocab_size, config.width);
  position_embedding_ =
      Embedding(loader, "embeddings.position_embedding.weight", config.max_positions, config.width);

  AttentionOptions attention;
  attention.width = config.width;
  attention.heads = config.heads;
  attention.head_dim = config.width / config.heads;
  attention.projection_bias = true;
  attention.causal = true;
  attention.q = "q_proj", attention.k = "k_proj", attention.v = "v_proj", attention.out = "out_proj";
  for (int64_t i = 0; i < config.layers; ++i) {
    const std::string prefix = "encoder.layers." + std::to_string(i) + ".";
    Layer layer;
    layer.norm1 = LayerNorm(loader, prefix + "layer_norm1", config.width, config.layer_norm_eps);
    layer.attention = Attention(loader, prefix + "self_attn", attention);
    layer.norm2 = LayerNorm(loader, prefix + "layer_norm2", config.width, config.layer_norm_eps);
    layer.up = Linear(loader, prefix + "mlp.fc1", config.width, config.intermediate);
    layer.down = Linear(loader, prefix + "mlp.fc2", config.intermediate, config.width);
    layers_.push_back(std::move(layer));
  }
  final_norm_ = LayerNorm(loader, "final_layer_norm", config.width, config.layer_norm_eps);
}

Feature TextEncoder::embed(Run& run, const int32_t* tokens, int64_t n, int64_t length) const {
  Feature x(run, n, 1, length, config_.width);
  run.parallel(n, [&](int64_t image, int) {
    float* position = thread_scratch(static_cast<size_t>(config_.width));
    for (int64_t t = 0; t < length; ++t) {
      float* row = x.data() + (image * length + t) * config_.width;
      token_embedding_.read(run.kernels, tokens[image * length + t], row);
      position_embedding_.read(run.kernels, t, position);
      run.kernels.add(row, position, config_.width, row);
    }
  });
  return x;
}

void TextEncoder::encode(const int32_t* tokens, int64_t n, int64_t length, int64_t skip, float* out,
                         const CancelToken* cancel) {
  require(n >= 1, "Expected at least 1 row of tokens but received " + std::to_string(n));
  require(length >= 1 && length <= config_.max_positions,
          "Expected between 1 and " + std::to_string(config_.max_positions) + " tokens a row but received " +
              std::to_string(length));
  require(skip >= 0 && skip <= config_.layers, "Expected between 0 and " + std::to_string(config_.layers) +
                                                   " layers to skip but received " + std::to_string(skip));
  for (int64_t i = 0; i < n * length; ++i) {
    require(tokens[i] >= 0 && tokens[i] < config_.vocab_size,
            "Expected token ids between 0 and " + std::to_string(config_.vocab_size - 1) + " but received " +
                std::to_string(tokens[i]) + " at position " + std::to_string(i % length) + " of row " +
                std::to_string(i / length));
  }

  Fuse activate;
  activate.activation = config_.activation;
  workspace_.run(kernels_, cancel, [&](Run& run) {
    Feature x = embed(run, tokens, n, length);
    for (int64_t i = 0; i < config_.layers - skip; ++i) {
      const Layer& layer = layers_[static_cast<size_t>(i)];
      Feature normed = layer.norm1.forward(run, x);
      x = layer.attention.forward(run, normed, &x);
      normed = layer.norm2.forward(run, x);
      const Feature hidden = layer.up.forward(run, normed, activate);
      normed.release();
      Fuse residual;
      residual.residual = &x;
      x = layer.down.forward(run, hidden, residual);
    }
    x = final_norm_.forward(run, x);
    if (!run.measuring()) std::copy_n(x.data(), x.size(), out);
  });
}

}  // namespace nd
