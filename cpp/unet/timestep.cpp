#include "unet/timestep.h"

#include <algorithm>
#include <cmath>

#include "core/require.h"

namespace nd {
namespace {

/// Numbers of the guidance scale as LCM embeds it: (scale − 1) · 1000, sines first.
constexpr float kGuidanceFactor = 1000;

void require_given(const float* values, bool wanted, const char* name) {
  require((values != nullptr) == wanted, std::string("Expected ") + (wanted ? "" : "no ") + name +
                                             " for this UNet" + (wanted ? "" : ", which is not made for it"));
}

LinearOptions time_options() {
  LinearOptions options;
  options.role = Role::time_embedding;
  return options;
}

}  // namespace

void sinusoidal_embedding(float number, int64_t width, bool cosine_first, float frequency_shift, float* out) {
  const int64_t half = width / 2;
  const float log_period = static_cast<float>(-std::log(10000.0));
  // The shift is subtracted before rounding, as PyTorch does with a scalar divisor.
  const float divisor = static_cast<float>(static_cast<double>(half) - static_cast<double>(frequency_shift));
  float* sines = out + (cosine_first ? half : 0);
  float* cosines = out + (cosine_first ? 0 : half);
  for (int64_t i = 0; i < half; ++i) {
    const float angle = number * std::exp(log_period * static_cast<float>(i) / divisor);
    sines[i] = std::sin(angle);
    cosines[i] = std::cos(angle);
  }
  if (width % 2 != 0) out[width - 1] = 0;
}

TimestepEmbedding::Projection::Projection(Loader& loader, const std::string& prefix, int64_t in, int64_t out)
    : linear1(loader.linear(prefix + ".linear_1", in, out, time_options())),
      linear2(loader.linear(prefix + ".linear_2", out, out, time_options())) {}

Tensor TimestepEmbedding::Projection::forward(ForwardContext& ctx, const Tensor& x,
                                              const Epilogue& last) const {
  Epilogue silu;
  silu.activation = Activation::silu;
  const Tensor hidden = linear1->forward(ctx, x, silu);
  return linear2->forward(ctx, hidden, last);
}

TimestepEmbedding::TimestepEmbedding(Loader& loader, const UnetConfig& config) : config_(config) {
  const int64_t width = config.block_channels[0], out = config.time_width();
  if (config.guidance_width > 0) {
    LinearOptions options = time_options();
    options.bias = false;
    guidance_ = loader.linear("time_embedding.cond_proj", config.guidance_width, width, options);
  }
  time_ = Projection(loader, "time_embedding", width, out);
  switch (config.class_embedding) {
    case ClassEmbedding::none:
      break;
    case ClassEmbedding::table:
      class_table_ = loader.embedding("class_embedding.weight", config.class_count, out);
      break;
    case ClassEmbedding::timestep:
      class_ = Projection(loader, "class_embedding", width, out);
      break;
    case ClassEmbedding::projection:
      class_ = Projection(loader, "class_embedding", config.class_width, out);
      break;
  }
  if (config.added_width > 0) added_ = Projection(loader, "add_embedding", config.added_width, out);
  if (config.control_types > 0)
    control_ =
        Projection(loader, "control_add_embedding", config.control_types * config.added_time_width, out);
}

int64_t TimestepEmbedding::max_key_floats() const {
  // A number takes more of the added vector than one float.
  return added_column() + config_.added_width;
}

void TimestepEmbedding::check(const Conditioning& given, int64_t n) const {
  require_given(given.guidance, config_.guidance_width > 0, "guidance");
  require_given(given.classes, config_.class_embedding != ClassEmbedding::none, "classes");
  require_given(given.control_types, config_.control_types > 0, "controlTypes");
  const int64_t added = given.pooled_width + given.time_id_count * config_.added_time_width;
  require(added == config_.added_width && (config_.added_width > 0 || given.time_id_count == 0),
          "Expected pooled text and time ids of a width of " + std::to_string(config_.added_width) +
              " together but received " + std::to_string(given.pooled_width) + " and " +
              std::to_string(given.time_id_count) + " × " + std::to_string(config_.added_time_width));
  if (config_.class_embedding != ClassEmbedding::table) return;
  for (int64_t i = 0; i < n; ++i) {
    const float number = given.classes[i];
    require(number >= 0 && number < static_cast<float>(config_.class_count) && number == std::floor(number),
            "Expected classes between 0 and " + std::to_string(config_.class_count - 1) + " but received " +
                std::to_string(number));
  }
}

TimestepKeys TimestepEmbedding::keys(const Conditioning& given, int64_t n) const {
  check(given, n);
  TimestepKeys keys;
  keys.n = n;
  keys.time_ids = given.time_id_count;
  keys.floats = added_column() + given.pooled_width + given.time_id_count;
  const auto append = [&](const float* rows, int64_t i, int64_t width) {
    keys.values.insert(keys.values.end(), rows + i * width, rows + (i + 1) * width);
  };
  for (int64_t i = 0; i < n; ++i) {
    append(given.timesteps, i, 1);
    if (given.guidance) append(given.guidance, i, 1);
    if (given.classes) append(given.classes, i, config_.class_floats());
    if (given.control_types) append(given.control_types, i, config_.control_types);
    if (given.pooled_width > 0) append(given.pooled, i, given.pooled_width);
    if (given.time_id_count > 0) append(given.time_ids, i, given.time_id_count);
  }
  return keys;
}

TimestepKeys TimestepEmbedding::no_keys(int64_t n) const {
  TimestepKeys keys;
  keys.n = n;
  return keys;
}

Tensor TimestepEmbedding::waves(ForwardContext& ctx, const TimestepKeys& keys, int64_t column) const {
  const int64_t width = config_.block_channels[0];
  Tensor waves(ctx, keys.n, 1, 1, width);
  if (ctx.measuring()) return waves;
  std::vector<float> values(static_cast<size_t>(keys.n * width));
  for (int64_t i = 0; i < keys.n; ++i)
    sinusoidal_embedding(keys.row(i)[column], width, config_.flip_sin_to_cos, config_.freq_shift,
                         values.data() + i * width);
  ctx.backend.put(ctx, values.data(), waves, 0, keys.n);
  return waves;
}

/// The input of the time embedding: with a guidance scale, its embedding is added.
Tensor TimestepEmbedding::time(ForwardContext& ctx, const TimestepKeys& keys) const {
  Tensor time = waves(ctx, keys, 0);
  if (!guidance_) return time;
  const int64_t width = config_.guidance_width;
  const Tensor guidance(ctx, keys.n, 1, 1, width);
  if (!ctx.measuring()) {
    std::vector<float> values(static_cast<size_t>(keys.n * width));
    for (int64_t i = 0; i < keys.n; ++i)
      sinusoidal_embedding((keys.row(i)[1] - 1) * kGuidanceFactor, width, false, 1,
                           values.data() + i * width);
    ctx.backend.put(ctx, values.data(), guidance, 0, keys.n);
  }
  Epilogue sum;
  sum.residual = &time;
  return guidance_->forward(ctx, guidance, sum);
}

Tensor TimestepEmbedding::classes(ForwardContext& ctx, const TimestepKeys& keys) const {
  if (class_table_) {
    std::vector<int32_t> ids(static_cast<size_t>(keys.n));
    for (int64_t i = 0; i < keys.n && !ctx.measuring(); ++i)
      ids[static_cast<size_t>(i)] = static_cast<int32_t>(keys.row(i)[class_column()]);
    return class_table_->forward(ctx, ids.data(), keys.n, 1);
  }
  if (config_.class_embedding == ClassEmbedding::timestep)
    return class_.forward(ctx, waves(ctx, keys, class_column()), {});
  const Tensor vectors(ctx, keys.n, 1, 1, config_.class_width);
  for (int64_t i = 0; i < keys.n && !ctx.measuring(); ++i)
    ctx.backend.put(ctx, keys.row(i) + class_column(), vectors, i, 1);
  return class_.forward(ctx, vectors, {});
}

/// Pooled text, then the embedded numbers, through two linear layers; + `others` unless it is empty.
Tensor TimestepEmbedding::added(ForwardContext& ctx, const TimestepKeys& keys, const Tensor& others) const {
  const Tensor vectors(ctx, keys.n, 1, 1, config_.added_width);
  if (!ctx.measuring()) {
    const int64_t first = added_column(), width = config_.added_time_width;
    const int64_t pooled = config_.added_width - keys.time_ids * width;
    std::vector<float> values(static_cast<size_t>(config_.added_width));
    for (int64_t i = 0; i < keys.n; ++i) {
      const float* row = keys.row(i) + first;
      std::copy_n(row, pooled, values.data());
      for (int64_t j = 0; j < keys.time_ids; ++j)
        sinusoidal_embedding(row[pooled + j], width, config_.flip_sin_to_cos, config_.freq_shift,
                             values.data() + pooled + j * width);
      ctx.backend.put(ctx, values.data(), vectors, i, 1);
    }
  }
  Epilogue sum;
  sum.residual = others ? &others : nullptr;
  return added_.forward(ctx, vectors, sum);
}

/// The embedded kinds of pictures through two linear layers; + `others` unless it is empty.
Tensor TimestepEmbedding::control_types(ForwardContext& ctx, const TimestepKeys& keys,
                                        const Tensor& others) const {
  const int64_t width = config_.added_time_width, count = config_.control_types;
  const Tensor vectors(ctx, keys.n, 1, 1, count * width);
  if (!ctx.measuring()) {
    std::vector<float> values(static_cast<size_t>(count * width));
    for (int64_t i = 0; i < keys.n; ++i) {
      for (int64_t j = 0; j < count; ++j)
        sinusoidal_embedding(keys.row(i)[control_column() + j], width, config_.flip_sin_to_cos,
                             config_.freq_shift, values.data() + j * width);
      ctx.backend.put(ctx, values.data(), vectors, i, 1);
    }
  }
  Epilogue sum;
  sum.residual = others ? &others : nullptr;
  return control_.forward(ctx, vectors, sum);
}

Tensor TimestepEmbedding::forward(ForwardContext& ctx, const TimestepKeys& keys) const {
  // The sum of all vectors goes through SiLU: the others are the last layer's bias of each image.
  Tensor others;
  if (config_.class_embedding != ClassEmbedding::none) others = classes(ctx, keys);
  if (config_.control_types > 0) others = control_types(ctx, keys, others);
  if (config_.added_width > 0) others = added(ctx, keys, others);
  Epilogue last;
  last.activation = Activation::silu;
  last.image_bias = others ? &others : nullptr;
  return time_.forward(ctx, time(ctx, keys), last);
}

}  // namespace nd
