// The reference backend: layers.
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/cancel.h"
#include "nn/loader.h"
#include "reference_backend.h"

namespace nd::test {
namespace {

std::vector<float> decoded(const StoredTensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.count()));
  tensor.read(scalar_decoders, 0, tensor.count(), values.data());
  return values;
}

float sigmoid(float x) {
  return 1 / (1 + std::exp(-x));
}

float activate(float x, Activation activation) {
  switch (activation) {
    case Activation::silu:
      return x * sigmoid(x);
    case Activation::gelu:
    case Activation::geglu:
      return 0.5f * x * (1 + std::erf(x / std::sqrt(2.0f)));
    case Activation::quick_gelu:
      return x * sigmoid(1.702f * x);
    case Activation::relu:
      return x < 0 ? 0 : x;  // NaN stays
    case Activation::none:
      break;
  }
  return x;
}

/// What all layers need: the memory that tensors lie in.
struct Layer {
  ReferenceBackend& backend;
  float* values(const Tensor& x) const { return backend.values(x); }
  /// Between layers the call can be cancelled.
  static bool skips(const ForwardContext& ctx) {
    if (ctx.measuring()) return true;
    if (ctx.cancel) ctx.cancel->check();
    return false;
  }
};

class RefLinear final : public Linear, Layer {
 public:
  RefLinear(ReferenceBackend& backend, const LinearWeights& weights, bool geglu)
      : Layer{backend}, bias_(weights.bias), in_(weights.in), out_(weights.out()), geglu_(geglu) {
    for (const StoredTensor& matrix : weights.matrices) {
      const std::vector<float> part = decoded(matrix);
      weights_.insert(weights_.end(), part.begin(), part.end());
    }
  }
  int64_t out() const { return geglu_ ? out_ / 2 : out_; }

  Tensor forward(ForwardContext& ctx, const Tensor& x, const Epilogue& epilogue) const override {
    Tensor out(ctx, x.n, x.h, x.w, this->out());
    if (skips(ctx)) return out;
    for (int64_t row = 0; row < x.rows(); ++row)
      for (int64_t j = 0; j < out.c; ++j) {
        float y = product(x, row, j);
        if (geglu_) y *= activate(product(x, row, j + out.c), Activation::gelu);
        if (epilogue.image_bias)
          y += values(*epilogue.image_bias)[row / x.pixels() * epilogue.image_bias->c +
                                            epilogue.image_bias_channel + j];
        y = activate(y, epilogue.activation);
        if (epilogue.residual) y += values(*epilogue.residual)[row * out.c + j];
        values(out)[row * out.c + j] = y;
      }
    return out;
  }
  Tensor forward_in_place(ForwardContext& ctx, Tensor x) const override {
    const Tensor out = forward(ctx, x, {});
    if (!ctx.measuring()) std::copy_n(values(out), out.size(), values(x));
    x.c = out.c;
    return x;
  }

 private:
  float product(const Tensor& x, int64_t row, int64_t j) const {
    double sum = bias_.empty() ? 0 : bias_[static_cast<size_t>(j)];
    for (int64_t i = 0; i < in_; ++i)
      sum += static_cast<double>(values(x)[row * in_ + i]) * weights_[static_cast<size_t>(j * in_ + i)];
    return static_cast<float>(sum);
  }

  std::vector<float> weights_, bias_;
  int64_t in_, out_;
  bool geglu_;
};

class RefFeedForward final : public FeedForward, Layer {
 public:
  RefFeedForward(ReferenceBackend& backend, const LinearWeights& in, const LinearWeights& out)
      : Layer{backend}, in_(backend, in, true), out_(backend, out, false) {}
  void add_to(ForwardContext& ctx, const Tensor& normed, const Tensor& x) const override {
    const Tensor hidden = in_.forward(ctx, normed, {}), result = out_.forward(ctx, hidden, {});
    for (int64_t i = 0; i < x.size() && !ctx.measuring(); ++i) values(x)[i] += values(result)[i];
  }

 private:
  RefLinear in_, out_;
};

class RefMoments final : public ChannelMoments, Layer {
 public:
  explicit RefMoments(ReferenceBackend& backend) : Layer{backend} {}
  void add(ForwardContext& ctx, const Tensor& x, int64_t first, int64_t rows) override {
    if (ctx.measuring()) return;
    channels.resize(static_cast<size_t>(x.c));
    for (int64_t i = first * x.w * x.c; i < (first + rows) * x.w * x.c; ++i)
      channels[static_cast<size_t>(i % x.c)].push_back(values(x)[i]);
  }
  std::vector<std::vector<float>> channels;  // every value
};

class RefGroupNorm final : public GroupNorm, Layer {
 public:
  RefGroupNorm(ReferenceBackend& backend, NormWeights weights, int64_t groups, float eps)
      : Layer{backend}, weights_(std::move(weights)), groups_(groups), eps_(eps) {}

  Tensor affine(ForwardContext& ctx, const Tensor& x) const override {
    Tensor out(ctx, x.n, 1, 2, x.c);
    if (skips(ctx)) return out;
    for (int64_t image = 0; image < x.n; ++image) {
      std::vector<std::vector<float>> channels(static_cast<size_t>(x.c));
      for (int64_t i = 0; i < x.pixels() * x.c; ++i)
        channels[static_cast<size_t>(i % x.c)].push_back(values(x)[image * x.pixels() * x.c + i]);
      write(channels, values(out) + image * 2 * x.c);
    }
    return out;
  }
  Tensor affine(ForwardContext& ctx, const ChannelMoments& image) const override {
    Tensor out(ctx, 1, 1, 2, static_cast<int64_t>(weights_.gamma.size()));
    if (!skips(ctx)) write(static_cast<const RefMoments&>(image).channels, values(out));
    return out;
  }
  Tensor forward(ForwardContext& ctx, const Tensor& x, bool silu) const override {
    const Tensor factors = affine(ctx, x);
    Tensor out(ctx, x.n, x.h, x.w, x.c);
    for (int64_t i = 0; i < x.size() && !ctx.measuring(); ++i) {
      const float* factor = values(factors) + i / x.c / x.pixels() * 2 * x.c + i % x.c;
      values(out)[i] =
          activate(values(x)[i] * factor[0] + factor[x.c], silu ? Activation::silu : Activation::none);
    }
    return out;
  }
  Tensor modulated(ForwardContext& ctx, const Tensor& x, const Tensor& modulations, int64_t first_channel,
                   Activation activation) const override {
    Tensor out = forward(ctx, x, false);
    for (int64_t i = 0; i < x.size() && !ctx.measuring(); ++i) {
      const float* modulation =
          values(modulations) + i / x.c / x.pixels() * modulations.c + first_channel + i % x.c;
      values(out)[i] = activate(values(out)[i] * (1 + modulation[0]) + modulation[x.c], activation);
    }
    return out;
  }

 private:
  void write(const std::vector<std::vector<float>>& channels, float* factors) const {
    const size_t c = channels.size(), width = c / static_cast<size_t>(groups_);
    for (size_t first = 0; first < c; first += width) {
      double count = 0, mean = 0, squares = 0;
      for (size_t j = first; j < first + width; ++j)
        for (const float value : channels[j]) mean += value, ++count;
      mean /= count;
      for (size_t j = first; j < first + width; ++j)
        for (const float value : channels[j]) squares += (value - mean) * (value - mean);
      for (size_t j = first; j < first + width; ++j) {
        const double scale = weights_.gamma[j] / std::sqrt(squares / count + eps_);
        factors[j] = static_cast<float>(scale);
        factors[c + j] = static_cast<float>(weights_.beta[j] - mean * scale);
      }
    }
  }

  NormWeights weights_;
  int64_t groups_;
  float eps_;
};

class RefLayerNorm final : public LayerNorm, Layer {
 public:
  RefLayerNorm(ReferenceBackend& backend, NormWeights weights, float eps)
      : Layer{backend}, weights_(std::move(weights)), eps_(eps) {}
  Tensor forward(ForwardContext& ctx, const Tensor& x) const override {
    Tensor out(ctx, x.n, x.h, x.w, x.c);
    if (skips(ctx)) return out;
    for (int64_t row = 0; row < x.rows(); ++row) {
      const float* from = values(x) + row * x.c;
      double mean = 0, squares = 0;
      for (int64_t j = 0; j < x.c; ++j) mean += from[j];
      mean /= static_cast<double>(x.c);
      for (int64_t j = 0; j < x.c; ++j) squares += (from[j] - mean) * (from[j] - mean);
      const double inverse = 1 / std::sqrt(squares / static_cast<double>(x.c) + eps_);
      for (int64_t j = 0; j < x.c; ++j)
        values(out)[row * x.c + j] =
            static_cast<float>((from[j] - mean) * inverse * weights_.gamma[static_cast<size_t>(j)] +
                               weights_.beta[static_cast<size_t>(j)]);
    }
    return out;
  }

 private:
  NormWeights weights_;
  float eps_;
};

class RefConv2d final : public Conv2d, Layer {
 public:
  RefConv2d(ReferenceBackend& backend, const Conv2dWeights& weights, const Conv2dOptions& options)
      : Conv2d(weights.in, weights.out, options),
        Layer{backend},
        kernel_(decoded(weights.kernel)),
        bias_(weights.bias),
        channels_last_(weights.kernel.channels_last) {}

  Tensor forward(ForwardContext& ctx, const Tensor& x, const GroupNorm* norm,
                 const Epilogue& epilogue) const override {
    return forward_with(ctx, x, norm ? norm->affine(ctx, x) : Tensor(), epilogue);
  }
  Tensor forward_onto(ForwardContext& ctx, const Tensor& x, const GroupNorm* norm,
                      Tensor residual) const override {
    return forward_onto_with(ctx, x, norm ? norm->affine(ctx, x) : Tensor(), std::move(residual), false);
  }
  Tensor forward_with(ForwardContext& ctx, const Tensor& x, const Tensor& factors,
                      const Epilogue& epilogue) const override {
    const Conv2dOptions& o = options();
    const int64_t scale = o.upsample ? 2 : 1, padding = o.pad_before + o.pad_after - o.kernel;
    return convolve(ctx, x, factors, epilogue, (x.h * scale + padding) / o.stride + 1,
                    (x.w * scale + padding) / o.stride + 1);
  }
  Tensor forward_onto_with(ForwardContext& ctx, const Tensor& x, const Tensor& factors, Tensor residual,
                           bool relu) const override {
    Epilogue epilogue;
    epilogue.residual = &residual;
    epilogue.relu_after_residual = relu;
    return forward_with(ctx, x, factors, epilogue);
  }
  Tensor forward_in_place(ForwardContext& ctx, Tensor x) const override {
    return forward_with(ctx, x, Tensor(), {});
  }
  Tensor upsample(ForwardContext& ctx, const Tensor& x, int64_t height, int64_t width) const override {
    return convolve(ctx, x, Tensor(), {}, height, width);
  }

 private:
  /// The layer at a result of height × width; an upsampling one's input is cut to that size first.
  Tensor convolve(ForwardContext& ctx, const Tensor& x, const Tensor& factors, const Epilogue& epilogue,
                  int64_t height, int64_t width) const {
    const Conv2dOptions& o = options();
    Tensor result(ctx, x.n, height, width, out());
    if (skips(ctx)) return result;
    const int64_t scale = o.upsample ? 2 : 1, in_h = o.upsample ? height : x.h,
                  in_w = o.upsample ? width : x.w;
    for (int64_t i = 0; i < result.size(); ++i) {
      const int64_t channel = i % out(), column = i / out() % width, row = i / out() / width % height,
                    image = i / out() / width / height;
      double sum = bias_.empty() ? 0 : bias_[static_cast<size_t>(channel)];
      for (int64_t ky = 0; ky < o.kernel; ++ky)
        for (int64_t kx = 0; kx < o.kernel; ++kx) {
          const int64_t y = row * o.stride + ky - o.pad_before, left = column * o.stride + kx - o.pad_before;
          if (y < 0 || y >= in_h || left < 0 || left >= in_w) continue;
          for (int64_t c = 0; c < in(); ++c) {
            float value = values(x)[((image * x.h + y / scale) * x.w + left / scale) * in() + c];
            if (factors) {
              const float* factor = values(factors) + image * 2 * in() + c;
              value = activate(value * factor[0] + factor[in()], Activation::silu);
            }
            const int64_t tap = ky * o.kernel + kx, taps = int64_t{o.kernel} * o.kernel;
            const int64_t at =
                channels_last_ ? (channel * taps + tap) * in() + c : (channel * in() + c) * taps + tap;
            sum += static_cast<double>(value) * kernel_[static_cast<size_t>(at)];
          }
        }
      float y = static_cast<float>(sum);
      if (epilogue.image_bias)
        y += values(
            *epilogue.image_bias)[image * epilogue.image_bias->c + epilogue.image_bias_channel + channel];
      y = activate(y, epilogue.activation);
      if (epilogue.residual) y += values(*epilogue.residual)[i];
      values(result)[i] = epilogue.relu_after_residual ? activate(y, Activation::relu) : y;
    }
    return result;
  }

  std::vector<float> kernel_, bias_;
  bool channels_last_;
};

class RefAttention final : public Attention, Layer {
 public:
  RefAttention(ReferenceBackend& backend, const AttentionWeights& weights, const AttentionOptions& options)
      : Layer{backend},
        options_(options),
        queries_(backend, weights.queries, false),
        out_(backend, weights.out, false) {
    if (options.context_width)
      keys_values_ = std::make_unique<RefLinear>(backend, weights.keys_values, false);
  }

  Tensor forward(ForwardContext& ctx, const Tensor& x, const Tensor* residual) const override {
    const Tensor qkv = queries_.forward(ctx, x, {});
    const int64_t inner = options_.inner();
    const Tensor mixed = attend(ctx, x, qkv, x.pixels(), [&](int64_t image, int64_t token) {
      return values(qkv) + (image * x.pixels() + token) * qkv.c + inner;
    });
    return project(ctx, mixed, residual);
  }
  Tensor forward_apart(ForwardContext& ctx, const Tensor& inputs, const Tensor* residual) const override {
    const Tensor qkv = queries_.forward(ctx, inputs, {});
    const int64_t n = inputs.n / 3, inner = options_.inner(), pixels = inputs.pixels();
    // The keys and values of each token, one after the other.
    std::vector<float> keys_values(static_cast<size_t>(n * pixels * 2 * inner));
    for (int64_t row = 0; row < n * pixels && !skips(ctx); ++row)
      for (int part = 0; part < 2; ++part)
        std::copy_n(values(qkv) + ((part + 1) * n * pixels + row) * qkv.c + (part + 1) * inner, inner,
                    keys_values.data() + (row * 2 + part) * inner);
    const Tensor shape = Tensor::borrowed({}, n, inputs.h, inputs.w, inputs.c);
    const Tensor mixed = attend(ctx, shape, qkv, pixels, [&](int64_t image, int64_t token) {
      return keys_values.data() + (image * pixels + token) * 2 * inner;
    });
    return project(ctx, mixed, residual);
  }
  Tensor forward(ForwardContext& ctx, const Tensor& x, const PackedContext& context,
                 const std::vector<AddedContext>& added, const Tensor* residual) const override {
    const Tensor q = queries_.forward(ctx, x, {});
    const int64_t width = 2 * options_.inner();
    const Tensor mixed = attend(ctx, x, q, context.length, [&](int64_t image, int64_t token) {
      float* packed = static_cast<float*>(backend.hidden().at(context.images[image] + context.offset));
      return packed + token * width;
    });
    for (const AddedContext& one : added) {
      const Tensor& kv = one.keys_values;
      const Tensor more = attend(ctx, x, q, kv.pixels(), [&](int64_t image, int64_t token) {
        return values(kv) + (one.rows[image] * kv.pixels() + token) * width;
      });
      backend.add_masked(ctx, more, mixed, one.factor, one.mask ? &one.mask : nullptr);
    }
    return project(ctx, mixed, residual);
  }
  Tensor forward_onto(ForwardContext& ctx, const GroupNorm& norm, Tensor x) const override {
    const Tensor normed = norm.forward(ctx, x, false);
    return forward(ctx, normed, &x);
  }
  size_t packed_bytes(int64_t length) const override {
    return (static_cast<size_t>(length * 2 * options_.inner()) * sizeof(float) + 63) / 64 * 64;
  }
  void pack(ForwardContext& ctx, const Tensor& context, const Address* images, size_t offset) const override {
    const Tensor kv = keys_values_->forward(ctx, context, {});
    const int64_t floats = context.pixels() * kv.c;
    for (int64_t image = 0; image < context.n && !ctx.measuring(); ++image)
      std::copy_n(values(kv) + image * floats, floats,
                  static_cast<float*>(backend.hidden().at(images[image] + offset)));
  }

 private:
  /// key(image, token): the keys of all heads of a token, followed by its values.
  template <class Key>
  Tensor attend(ForwardContext& ctx, const Tensor& x, const Tensor& q, int64_t tokens, const Key& key) const {
    const int64_t inner = options_.inner(), d = options_.head_dim;
    Tensor mixed(ctx, x.n, x.h, x.w, inner);
    for (int64_t row = 0; row < x.rows() && !skips(ctx); ++row)
      for (int64_t head = 0; head < options_.heads; ++head) {
        const int64_t image = row / x.pixels(), query = row % x.pixels();
        const int64_t visible = options_.causal ? query + 1 : tokens;
        std::vector<double> score(static_cast<size_t>(visible));
        double highest = -std::numeric_limits<double>::infinity(), sum = 0;
        for (int64_t t = 0; t < visible; ++t) {
          double dot = 0;
          for (int64_t i = 0; i < d; ++i)
            dot += static_cast<double>(values(q)[row * q.c + head * d + i]) * key(image, t)[head * d + i];
          score[static_cast<size_t>(t)] = dot / std::sqrt(static_cast<double>(d));
          highest = std::max(highest, score[static_cast<size_t>(t)]);
        }
        for (double& s : score) sum += s = std::exp(s - highest);
        for (int64_t i = 0; i < d; ++i) {
          double value = 0;
          for (int64_t t = 0; t < visible; ++t)
            value += score[static_cast<size_t>(t)] * key(image, t)[inner + head * d + i];
          values(mixed)[row * inner + head * d + i] = static_cast<float>(value / sum);
        }
      }
    return mixed;
  }
  Tensor project(ForwardContext& ctx, const Tensor& mixed, const Tensor* residual) const {
    Epilogue epilogue;
    epilogue.residual = residual;
    return out_.forward(ctx, mixed, epilogue);
  }

  AttentionOptions options_;
  RefLinear queries_, out_;
  std::unique_ptr<RefLinear> keys_values_;
};

class RefEmbedding final : public Embedding, Layer {
 public:
  RefEmbedding(ReferenceBackend& backend, const StoredTensor& table)
      : Layer{backend}, table_(decoded(table)), width_(table.shape[1]) {}
  Tensor forward(ForwardContext& ctx, const int32_t* ids, int64_t n, int64_t length) const override {
    Tensor x(ctx, n, 1, length, width_);
    if (!skips(ctx)) std::fill_n(values(x), x.size(), 0.0f);
    add_to(ctx, ids, x);
    return x;
  }
  void add_to(ForwardContext& ctx, const int32_t* ids, const Tensor& x) const override {
    for (int64_t i = 0; i < x.size() && !ctx.measuring(); ++i)
      values(x)[i] += table_[static_cast<size_t>(ids[i / width_] * width_ + i % width_)];
  }

 private:
  std::vector<float> table_;
  int64_t width_;
};

class RefCodebook final : public Codebook, Layer {
 public:
  RefCodebook(ReferenceBackend& backend, const StoredTensor& codes)
      : Codebook(codes.shape[0], codes.shape[1]), Layer{backend}, codes_(decoded(codes)) {}
  void quantize(ForwardContext& ctx, const Tensor& latents, int32_t* out) const override {
    for (int64_t p = 0; p < latents.rows() && !ctx.measuring(); ++p) {
      double nearest = std::numeric_limits<double>::infinity();
      for (int64_t e = 0; e < size(); ++e) {
        double distance = 0;
        for (int64_t j = 0; j < width(); ++j)
          distance +=
              std::pow(values(latents)[p * width() + j] - codes_[static_cast<size_t>(e * width() + j)], 2.0);
        if (distance < nearest) nearest = distance, out[p] = static_cast<int32_t>(e);
      }
    }
  }
  void lookup(const int32_t* codes, int64_t n, int64_t pixels, float* latents) const override {
    for (int64_t i = 0; i < n * width() * pixels; ++i)
      latents[i] = codes_[static_cast<size_t>(codes[i / pixels / width() * pixels + i % pixels] * width() +
                                              i / pixels % width())];
  }

 private:
  std::vector<float> codes_;
};

/// Bolya & Hoffman 2023, written out.
class RefTokenMerge final : public TokenMerge, Layer {
 public:
  RefTokenMerge(ReferenceBackend& backend, ForwardContext& ctx, const Tensor& x, int64_t merged)
      : Layer{backend}, tokens_(x.pixels() - merged) {
    for (int64_t image = 0; image < x.n && !ctx.measuring(); ++image)
      row_.push_back(match(values(x) + image * x.pixels() * x.c, x, merged));
  }
  Tensor merge(ForwardContext& ctx, const Tensor& x) const override {
    Tensor out(ctx, x.n, 1, tokens_, x.c);
    if (skips(ctx)) return out;
    std::fill_n(values(out), out.size(), 0.0f);
    for (int64_t image = 0; image < x.n; ++image) {
      const std::vector<int64_t>& row = row_[static_cast<size_t>(image)];
      for (int64_t t = 0; t < x.pixels(); ++t) {
        const int64_t to = row[static_cast<size_t>(t)];
        const auto members = static_cast<float>(std::count(row.begin(), row.end(), to));
        for (int64_t j = 0; j < x.c; ++j)
          values(out)[(image * tokens_ + to) * x.c + j] +=
              values(x)[(image * x.pixels() + t) * x.c + j] / members;
      }
    }
    return out;
  }
  void unmerge_onto(ForwardContext& ctx, const Tensor& merged, const Tensor& x) const override {
    for (int64_t i = 0; i < x.size() && !ctx.measuring(); ++i) {
      const int64_t image = i / x.c / x.pixels(), t = i / x.c % x.pixels();
      const int64_t from = row_[static_cast<size_t>(image)][static_cast<size_t>(t)];
      values(x)[i] += values(merged)[(image * tokens_ + from) * x.c + i % x.c];
    }
  }

 private:
  static bool is_destination(const Tensor& x, int64_t t) {
    return t / x.w % 2 == 0 && t % x.w % 2 == 0 && t / x.w + 1 < x.h && t % x.w + 1 < x.w;
  }
  static std::vector<int64_t> match(const float* values, const Tensor& x, int64_t merged) {
    struct Edge {
      double similarity;
      int64_t from, to;
    };
    const auto dot = [&](int64_t a, int64_t b) {
      double sum = 0;
      for (int64_t j = 0; j < x.c; ++j) sum += static_cast<double>(values[a * x.c + j]) * values[b * x.c + j];
      return sum;
    };
    std::vector<Edge> edges;
    for (int64_t from = 0; from < x.pixels(); ++from) {
      if (is_destination(x, from)) continue;
      Edge best{-2, from, 0};
      for (int64_t to = 0; to < x.pixels(); ++to) {
        if (!is_destination(x, to)) continue;
        const double cosine = dot(from, to) / std::sqrt(dot(from, from) * dot(to, to));
        if (cosine > best.similarity) best = {cosine, from, to};
      }
      edges.push_back(best);
    }
    std::stable_sort(edges.begin(), edges.end(),
                     [](const Edge& a, const Edge& b) { return a.similarity > b.similarity; });
    std::vector<int64_t> into(static_cast<size_t>(x.pixels())), row(into.size());
    for (size_t t = 0; t < into.size(); ++t) into[t] = static_cast<int64_t>(t);
    for (int64_t i = 0; i < merged; ++i)
      into[static_cast<size_t>(edges[static_cast<size_t>(i)].from)] = edges[static_cast<size_t>(i)].to;
    int64_t next = 0;
    for (size_t t = 0; t < into.size(); ++t)
      if (into[t] == static_cast<int64_t>(t)) row[t] = next++;
    for (size_t t = 0; t < into.size(); ++t) row[t] = row[static_cast<size_t>(into[t])];
    return row;
  }

  int64_t tokens_;
  std::vector<std::vector<int64_t>> row_;  // of each image: the row that a token becomes a part of
};

}  // namespace

std::unique_ptr<Linear> ReferenceBackend::linear(Loader&, LinearWeights weights,
                                                 const LinearOptions& options) {
  return std::make_unique<RefLinear>(*this, weights, options.geglu);
}

std::unique_ptr<FeedForward> ReferenceBackend::feed_forward(Loader&, LinearWeights in, LinearWeights out) {
  return std::make_unique<RefFeedForward>(*this, in, out);
}

std::unique_ptr<Conv2d> ReferenceBackend::conv2d(Loader&, Conv2dWeights weights,
                                                 const Conv2dOptions& options) {
  return std::make_unique<RefConv2d>(*this, weights, options);
}

std::unique_ptr<GroupNorm> ReferenceBackend::group_norm(Loader&, NormWeights weights, int64_t groups,
                                                        float eps) {
  return std::make_unique<RefGroupNorm>(*this, std::move(weights), groups, eps);
}

std::unique_ptr<LayerNorm> ReferenceBackend::layer_norm(Loader&, NormWeights weights, float eps) {
  return std::make_unique<RefLayerNorm>(*this, std::move(weights), eps);
}

std::unique_ptr<Attention> ReferenceBackend::attention(Loader&, AttentionWeights weights,
                                                       const AttentionOptions& options) {
  return std::make_unique<RefAttention>(*this, weights, options);
}

std::unique_ptr<Embedding> ReferenceBackend::embedding(Loader&, const StoredTensor& table) {
  return std::make_unique<RefEmbedding>(*this, table);
}

std::unique_ptr<Codebook> ReferenceBackend::codebook(Loader&, const StoredTensor& codes) {
  return std::make_unique<RefCodebook>(*this, codes);
}

std::unique_ptr<ChannelMoments> ReferenceBackend::channel_moments() {
  return std::make_unique<RefMoments>(*this);
}

std::unique_ptr<TokenMerge> ReferenceBackend::merge_tokens(ForwardContext& ctx, const Tensor& x,
                                                           double ratio) {
  const int64_t destinations = x.h / 2 * (x.w / 2);
  const auto wanted = static_cast<int64_t>(ratio * static_cast<double>(x.pixels()));
  const int64_t merged = std::min(wanted, x.pixels() - destinations);
  if (destinations == 0 || merged == 0) return nullptr;
  return std::make_unique<RefTokenMerge>(*this, ctx, x, merged);
}

}  // namespace nd::test
