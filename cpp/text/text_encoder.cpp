#include "text/text_encoder.h"

#include <string>
#include <utility>

#include "core/require.h"

namespace nd {
void TextEncoderConfig::check() const {
  require(vocab_size >= 1,
          "Expected a text encoder's vocabSize of at least 1 but received " + std::to_string(vocab_size));
  require(width >= 1 && intermediate >= 1 && layers >= 0 && max_positions >= 1,
          "Expected a text encoder's width, intermediate and maxPositions of at least 1 and layers of at "
          "least 0");
  require(heads >= 1 && width % heads == 0, "Expected a text encoder's heads to divide its width " +
                                                std::to_string(width) + " but received " +
                                                std::to_string(heads));
  require(projection_width >= 0, "Expected a text encoder's projectionWidth of at least 0");
  require(activation == Activation::quick_gelu || activation == Activation::gelu,
          "Expected a text encoder's activation to be quick_gelu or gelu");
}

TextEncoder::TextEncoder(const TextEncoderConfig& config, Loader& loader)
    : config_(config), backend_(loader.backend()), workspace_(backend_) {
  config.check();
  const int64_t width = config.width;
  token_embedding_ = loader.embedding("embeddings.token_embedding.weight", config.vocab_size, width);
  position_embedding_ = loader.embedding("embeddings.position_embedding.weight", config.max_positions, width);

  layers_ = load_clip_layers(loader, config, true);
  final_norm_ = loader.layer_norm("final_layer_norm", width, config.layer_norm_eps);
  if (config.projection_width > 0) {
    LinearOptions projection;
    projection.bias = false;
    projection.transposed = config.projection_transposed;
    projection_ = loader.linear("text_projection", width, config.projection_width, projection);
  }
}

void TextEncoder::check(const TextInput& input) const {
  const int64_t n = input.n, length = input.length, skip = input.skip;
  const int32_t *tokens = input.tokens, *positions = input.pooled_positions;
  require(n >= 1, "Expected at least 1 row of tokens but received " + std::to_string(n));
  require(length >= 1 && length <= config_.max_positions,
          "Expected between 1 and " + std::to_string(config_.max_positions) + " tokens a row but received " +
              std::to_string(length));
  require(skip >= 0 && skip <= config_.layers, "Expected between 0 and " + std::to_string(config_.layers) +
                                                   " layers to skip but received " + std::to_string(skip));
  const int64_t ids = config_.vocab_size + input.vector_count;
  for (int64_t i = 0; i < n * length; ++i) {
    require(tokens[i] >= 0 && tokens[i] < ids, "Expected token ids between 0 and " + std::to_string(ids - 1) +
                                                   " but received " + std::to_string(tokens[i]) +
                                                   " at position " + std::to_string(i % length) + " of row " +
                                                   std::to_string(i / length));
  }
  if (!positions) return;
  for (int64_t i = 0; i < n; ++i)
    require(positions[i] >= 0 && positions[i] < length, "Expected pooled positions between 0 and " +
                                                            std::to_string(length - 1) + " but received " +
                                                            std::to_string(positions[i]));
}

void TextEncoder::encode(const TextInput& input, float* hidden, float* pooled, const CancelToken* cancel) {
  check(input);
  workspace_.run(cancel, [&](ForwardContext& ctx) { encode(ctx, input, hidden, pooled); });
}

size_t TextEncoder::working_bytes(int64_t n, int64_t length) const {
  const std::vector<int32_t> tokens(static_cast<size_t>(n * length)), ends(static_cast<size_t>(n));
  TextInput input;
  input.tokens = tokens.data();
  input.n = n, input.length = length;
  input.pooled_positions = ends.data();
  check(input);
  return Workspace::measure(backend_, [&](ForwardContext& ctx) { encode(ctx, input, nullptr, nullptr); });
}

Tensor TextEncoder::embed(ForwardContext& ctx, const TextInput& input) const {
  const int64_t n = input.n, length = input.length, vocabulary = config_.vocab_size;
  std::vector<int32_t> known, positions;
  for (int64_t i = 0; i < n * length; ++i) {
    known.push_back(input.tokens[i] < vocabulary ? input.tokens[i] : 0);
    positions.push_back(static_cast<int32_t>(i % length));
  }
  Tensor x = token_embedding_->forward(ctx, known.data(), n, length);
  for (int64_t i = 0; i < n * length && !ctx.measuring(); ++i)
    if (input.tokens[i] >= vocabulary)
      ctx.backend.put(ctx, input.vectors + (input.tokens[i] - vocabulary) * config_.width, x, i, 1);
  position_embedding_->add_to(ctx, positions.data(), x);
  return x;
}

void TextEncoder::encode(ForwardContext& ctx, const TextInput& input, float* hidden, float* pooled) const {
  const int64_t n = input.n, length = input.length;
  Tensor x = embed(ctx, input);
  const auto run = [&](int64_t first, int64_t end) {
    for (int64_t i = first; i < end; ++i) x = layers_[static_cast<size_t>(i)].forward(ctx, std::move(x));
  };
  const int64_t wanted = config_.layers - input.skip;
  run(0, wanted);
  Tensor normed;
  if (input.final_norm) normed = final_norm_->forward(ctx, x);
  ctx.backend.get(ctx, input.final_norm ? normed : x, hidden);
  if (!input.pooled_positions) return;
  normed.release();
  run(wanted, config_.layers);
  normed = final_norm_->forward(ctx, x);
  const Tensor ends(ctx, n, 1, 1, config_.width);
  for (int64_t i = 0; i < n; ++i)
    ctx.backend.copy_rows(ctx, normed, i * length + input.pooled_positions[i], ends, i, 1);
  if (projection_)
    ctx.backend.get(ctx, projection_->forward(ctx, ends), pooled);
  else
    ctx.backend.get(ctx, ends, pooled);
}

}  // namespace nd
