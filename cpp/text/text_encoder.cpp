#include "text/text_encoder.h"

#include <string>
#include <utility>

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
    : config_(config), workspace_(loader.backend()) {
  config.check();
  const int64_t width = config.width;
  token_embedding_ = loader.embedding("embeddings.token_embedding.weight", config.vocab_size, width);
  position_embedding_ = loader.embedding("embeddings.position_embedding.weight", config.max_positions, width);

  AttentionOptions attention;
  attention.width = width;
  attention.heads = config.heads;
  attention.head_dim = width / config.heads;
  attention.projection_bias = true;
  attention.causal = true;
  attention.q = "q_proj", attention.k = "k_proj", attention.v = "v_proj", attention.out = "out_proj";
  for (int64_t i = 0; i < config.layers; ++i) {
    const std::string prefix = "encoder.layers." + std::to_string(i) + ".";
    Layer layer;
    layer.norm1 = loader.layer_norm(prefix + "layer_norm1", width, config.layer_norm_eps);
    layer.attention = loader.attention(prefix + "self_attn", attention);
    layer.norm2 = loader.layer_norm(prefix + "layer_norm2", width, config.layer_norm_eps);
    layer.fc1 = loader.linear(prefix + "mlp.fc1", width, config.intermediate);
    layer.fc2 = loader.linear(prefix + "mlp.fc2", config.intermediate, width);
    layers_.push_back(std::move(layer));
  }
  final_norm_ = loader.layer_norm("final_layer_norm", width, config.layer_norm_eps);
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

  std::vector<int32_t> positions;
  for (int64_t i = 0; i < n * length; ++i) positions.push_back(static_cast<int32_t>(i % length));
  Epilogue activate;
  activate.activation = config_.activation;
  workspace_.run(cancel, [&](ForwardContext& ctx) {
    Tensor x = token_embedding_->forward(ctx, tokens, n, length);
    position_embedding_->add_to(ctx, positions.data(), x);
    for (int64_t i = 0; i < config_.layers - skip; ++i) {
      const Layer& layer = layers_[static_cast<size_t>(i)];
      Tensor normed = layer.norm1->forward(ctx, x);
      x = layer.attention->forward(ctx, normed, &x);
      normed = layer.norm2->forward(ctx, x);
      const Tensor hidden = layer.fc1->forward(ctx, normed, activate);
      normed.release();
      Epilogue residual;
      residual.residual = &x;
      x = layer.fc2->forward(ctx, hidden, residual);
    }
    x = final_norm_->forward(ctx, x);
    ctx.backend.get(ctx, x, out);
  });
}

}  // namespace nd
