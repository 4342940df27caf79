#include "control/control_fusion.h"

#include <string>

namespace nd {

namespace {

/// As torch.nn.LayerNorm.
constexpr float kNormEps = 1e-5f;

}  // namespace

ControlFusion::ControlFusion(Loader& loader, int64_t channels, int64_t types, int64_t layers)
    : channels_(channels), types_(loader.embedding("task_embedding", types, channels)) {
  LinearOptions options;
  options.role = Role::time_embedding;
  for (int64_t i = 0; i < layers; ++i) {
    // The published files have this spelling.
    const std::string prefix = "transformer_layes." + std::to_string(i) + ".";
    Layer layer;
    layer.norm1 = loader.layer_norm(prefix + "ln_1", channels, kNormEps);
    layer.value = loader.linear(prefix + "attn.v_proj", channels, channels, options);
    layer.out = loader.linear(prefix + "attn.out_proj", channels, channels, options);
    layer.norm2 = loader.layer_norm(prefix + "ln_2", channels, kNormEps);
    layer.in = loader.linear(prefix + "mlp.c_fc", channels, 4 * channels, options);
    layer.projection = loader.linear(prefix + "mlp.c_proj", 4 * channels, channels, options);
    layers_.push_back(std::move(layer));
  }
  out_ = loader.linear("spatial_ch_projs", channels, channels, options);
}

size_t ControlFusion::host_bytes(int64_t h, int64_t w, int64_t channels) {
  return static_cast<size_t>(h * w * channels) * sizeof(float);
}

std::vector<float> ControlFusion::mean(ForwardContext& ctx, const Tensor& x) const {
  std::vector<float> mean(static_cast<size_t>(channels_));
  if (ctx.measuring()) return mean;
  std::vector<float> values(static_cast<size_t>(x.size()));
  ctx.backend.get(ctx, x, values.data());
  std::vector<double> sums(static_cast<size_t>(channels_));
  for (size_t i = 0; i < values.size(); ++i) sums[i % sums.size()] += static_cast<double>(values[i]);
  for (size_t c = 0; c < mean.size(); ++c)
    mean[c] = static_cast<float>(sums[c] / static_cast<double>(x.pixels()));
  return mean;
}

Tensor ControlFusion::forward(ForwardContext& ctx, const std::vector<float>& mean, int64_t type,
                              float scale) const {
  Tensor x(ctx, 1, 1, 1, channels_);
  {
    const Tensor token(ctx, 1, 1, 1, channels_);
    const auto id = static_cast<int32_t>(type);
    const Tensor task = types_->forward(ctx, &id, 1, 1);
    if (!ctx.measuring()) {
      ctx.backend.put(ctx, mean.data(), token, 0, 1);
      ctx.backend.add_rows(ctx, token, 0, x, 0, 1, scale, true);
      ctx.backend.add_rows(ctx, task, 0, x, 0, 1, scale, false);
    }
  }
  for (const Layer& layer : layers_) {
    Epilogue sum, gelu;
    gelu.activation = Activation::quick_gelu;
    Tensor attended;
    {
      const Tensor value = layer.value->forward(ctx, layer.norm1->forward(ctx, x));
      sum.residual = &x;
      attended = layer.out->forward(ctx, value, sum);
    }
    const Tensor hidden = layer.in->forward(ctx, layer.norm2->forward(ctx, attended), gelu);
    sum.residual = &attended;
    x = layer.projection->forward(ctx, hidden, sum);
  }
  return out_->forward(ctx, x);
}

}  // namespace nd
