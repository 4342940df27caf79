#include "nn/loader.h"

#include <utility>

#include "core/error.h"
#include "nn/dry_backend.h"

namespace nd {
namespace {

template <class Weights>
void divide_output(Weights& weights, float unit) {
  weights.scale /= unit;
  for (float& value : weights.bias) value /= unit;
}

}  // namespace

Loader::Loader(const WeightTable& weights, Backend& backend, const LoadOptions& options,
               const CancelToken* cancel, const Variant* variant)
    : weights_(&weights),
      backend_(&backend),
      residency_(options.residency),
      plans_(options.plan),
      cancel_(cancel),
      variant_(variant) {
  if (variant) table_.task_bytes = variant->base.task_bytes;
  precision_.requested = options.precision;
  precision_.device = backend.capabilities();
}

Loader::Loader(std::vector<RequiredTensor>& list) : required_(&list), backend_(&dry_backend()) {}

template <class Layer, class Make>
std::shared_ptr<const Layer> Loader::layer(const char* kind, const std::vector<std::string>& tensors,
                                           Make make) {
  if (required_) return make();
  std::string key = kind;
  bool changes = false;
  for (const std::string& name : tensors) {
    key += ' ' + name;
    changes = changes || (variant_ && variant_->changed.count(name) > 0);
  }
  if (variant_ && !changes) {
    const auto found = variant_->base.layers.find(key);
    if (found != variant_->base.layers.end()) {
      table_.layers.insert(*found);
      return std::static_pointer_cast<const Layer>(found->second);
    }
  }
  std::shared_ptr<const Layer> made = make();
  table_.layers.emplace(std::move(key), made);
  return made;
}

StoredTensor Loader::require(const std::string& name, const std::vector<int64_t>& shape) {
  StoredTensor tensor;
  if (required_) {
    required_->push_back({name, shape});
    tensor.name = name;
  } else {
    tensor = adapted(weights_->require(name, shape), backend_->decoders());
    // Streamed rows need the adapters' factors whenever they are read.
    if (tensor.rows && streams()) packed_bytes_ += tensor.rows->bytes();
  }
  tensor.shape = shape;  // the stored one may have other trailing ones
  return tensor;
}

std::vector<float> Loader::vector(const std::string& name, int64_t length) {
  if (cancel_) cancel_->check();
  const StoredTensor tensor = require(name, {length});
  if (required_) return {};
  std::vector<float> out(static_cast<size_t>(length));
  if (!plans_) tensor.read(backend_->decoders(), 0, length, out.data());
  packed_bytes_ += out.size() * sizeof(float);
  return out;
}

LinearWeights Loader::linear_weights(const std::vector<std::string>& names, int64_t in, int64_t out_each,
                                     bool bias, Role role) {
  LinearWeights weights;
  weights.in = in;
  weights.out_each = out_each;
  for (const std::string& name : names) weights.matrices.push_back(require(name + ".weight", {out_each, in}));
  weights.compute = precision_.product(role, weights.matrices.front().type);
  for (const std::string& name : names) {
    if (!bias) break;
    const std::vector<float> part = vector(name + ".bias", out_each);
    weights.bias.insert(weights.bias.end(), part.begin(), part.end());
  }
  return weights;
}

NormWeights Loader::norm_weights(const std::string& name, int64_t channels) {
  NormWeights weights;
  weights.gamma = vector(name + ".weight", channels);
  weights.beta = vector(name + ".bias", channels);
  return weights;
}

/// Layers read their matrices row by row, which an [in][out] one in a file does not allow: it is read whole.
LinearWeights Loader::transposed_weights(const std::string& name, int64_t in, int64_t out, Role role) {
  LinearWeights weights;
  weights.in = in;
  weights.out_each = out;
  StoredTensor tensor = require(name + ".weight", {in, out});
  weights.compute = precision_.product(role, tensor.type);
  if (!required_) {
    if (cancel_) cancel_->check();
    if (plans_)
      tensor.bytes = static_cast<uint64_t>(in * out) * sizeof(float);
    else
      tensor = tensor.transposed(backend_->decoders());
    if (streams()) packed_bytes_ += tensor.bytes;
  }
  weights.matrices.push_back(std::move(tensor));
  return weights;
}

std::shared_ptr<const Linear> Loader::linear(const std::string& name, int64_t in, int64_t out,
                                             const LinearOptions& options) {
  return layer<Linear>("linear", {name + ".weight", name + ".bias"}, [&] {
    LinearWeights weights = options.transposed ? transposed_weights(name, in, out, options.role)
                                               : linear_weights({name}, in, out, options.bias, options.role);
    return backend_->linear(*this, std::move(weights), options);
  });
}

std::shared_ptr<const Linear> Loader::linear_pair(const std::string& first, const std::string& second,
                                                  int64_t in, int64_t out_each) {
  return layer<Linear>("linear pair", {first + ".weight", second + ".weight"}, [&] {
    LinearWeights weights = linear_weights({first, second}, in, out_each, false, Role::hidden);
    LinearOptions options;
    options.bias = false;
    return backend_->linear(*this, std::move(weights), options);
  });
}

std::shared_ptr<const FeedForward> Loader::feed_forward(const std::string& in_name,
                                                        const std::string& out_name, int64_t channels,
                                                        int64_t inner) {
  const std::vector<std::string> tensors = {in_name + ".weight", in_name + ".bias", out_name + ".weight",
                                            out_name + ".bias"};
  return layer<FeedForward>("feed-forward", tensors, [&] {
    LinearWeights in = linear_weights({in_name}, channels, 2 * inner, true, Role::hidden);
    LinearWeights out = linear_weights({out_name}, inner, channels, true, Role::hidden);
    return backend_->feed_forward(*this, std::move(in), std::move(out));
  });
}

std::shared_ptr<const Conv2d> Loader::conv2d(const std::string& name, int64_t in, int64_t out,
                                             const Conv2dOptions& options) {
  return layer<Conv2d>("conv2d", {name + ".weight", name + ".bias"}, [&] {
    const int64_t kernel = options.kernel;
    Conv2dWeights weights;
    weights.kernel = require(name + ".weight", {out, in, kernel, kernel});
    weights.in = in;
    weights.out = out;
    const bool three_by_three = !options.upsample && kernel == 3 && options.stride == 1 &&
                                options.pad_before == 1 && options.pad_after == 1;
    const PrecisionPolicy::Convolution chosen =
        precision_.convolution(options.role, weights.kernel.type, in, out, three_by_three, streams());
    weights.compute = chosen.compute;
    weights.winograd = chosen.winograd;
    if (options.bias) weights.bias = vector(name + ".bias", out);
    const float unit = backend_->wide_unit();
    if (options.wide_input) weights.scale *= unit;
    if (options.wide_output) divide_output(weights, unit);
    return backend_->conv2d(*this, std::move(weights), options);
  });
}

std::shared_ptr<const GroupNorm> Loader::group_norm(const std::string& name, int64_t channels, int64_t groups,
                                                    float eps, bool wide) {
  return layer<GroupNorm>("group norm", {name + ".weight", name + ".bias"}, [&] {
    // Normalization takes any scale away; eps is added to a variance.
    const float unit = wide ? backend_->wide_unit() : 1;
    return backend_->group_norm(*this, norm_weights(name, channels), groups, eps / (unit * unit));
  });
}

std::shared_ptr<const GroupNorm> Loader::plain_group_norm(int64_t channels, int64_t groups, float eps) {
  NormWeights weights;
  weights.gamma.assign(static_cast<size_t>(channels), 1.0f);
  weights.beta.assign(static_cast<size_t>(channels), 0.0f);
  return backend_->group_norm(*this, std::move(weights), groups, eps);
}

std::shared_ptr<const LayerNorm> Loader::layer_norm(const std::string& name, int64_t channels, float eps) {
  return layer<LayerNorm>("layer norm", {name + ".weight", name + ".bias"},
                          [&] { return backend_->layer_norm(*this, norm_weights(name, channels), eps); });
}

std::shared_ptr<const Attention> Loader::attention(const std::string& prefix,
                                                   const AttentionOptions& options) {
  const std::string q = prefix + "." + options.q, k = prefix + "." + options.k, v = prefix + "." + options.v,
                    out = prefix + "." + options.out;
  std::vector<std::string> tensors;
  for (const std::string& name : {q, k, v, out})
    for (const char* part : {".weight", ".bias"}) tensors.push_back(name + part);
  return layer<Attention>("attention", tensors, [&] {
    const bool bias = options.projection_bias;
    AttentionWeights weights;
    if (options.context_width) {
      weights.queries = linear_weights({q}, options.width, options.inner(), bias, options.role);
      weights.keys_values =
          linear_weights({k, v}, options.context_width, options.inner(), bias, options.role);
    } else {
      weights.queries = linear_weights({q, k, v}, options.width, options.inner(), bias, options.role);
    }
    weights.out = linear_weights({out}, options.inner(), options.width, options.output_bias, options.role);
    if (options.wide_output) divide_output(weights.out, backend_->wide_unit());
    return backend_->attention(*this, std::move(weights), options);
  });
}

std::shared_ptr<const Embedding> Loader::embedding(const std::string& name, int64_t count, int64_t width) {
  return layer<Embedding>("embedding", {name}, [&] {
    return backend_->embedding(*this, require(name, {count, width}));
  });
}

std::shared_ptr<const Embedding> Loader::vector_embedding(const std::string& name, int64_t width) {
  StoredTensor table = require(name, {width});
  table.shape = {1, width};
  return backend_->embedding(*this, table);
}

std::shared_ptr<const Codebook> Loader::codebook(const std::string& name, int64_t size, int64_t width) {
  return layer<Codebook>("codebook", {name}, [&] {
    return backend_->codebook(*this, require(name, {size, width}));
  });
}

}  // namespace nd
