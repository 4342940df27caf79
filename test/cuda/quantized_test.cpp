// Weights that stay in ggml's blocks or in float8 in the GPU's memory: the same bits as from halves that were
// decoded when the layer was made.
#include "fixture_models.h"
#include "nn/loader.h"
#include "nn/workspace.h"
#include "support.h"
#include "weights/adapter.h"
#include "weights/formats/traits.h"

namespace nd::cuda_test {
namespace {

using namespace nd::cuda;

/// One matrix or kernel in memory, as `type` and as what that decodes to.
struct Weights {
  std::vector<uint8_t> bytes;
  std::vector<float> decoded;
  StoredTensor quantized, floats;

  /// float8 has a factor, too.
  Weights(TensorType type, std::vector<int64_t> shape, bool channels_last, const std::string& seed,
          float scale = 1) {
    int64_t count = 1;
    for (const int64_t side : shape) count *= side;
    const std::vector<float> values = noise(seed, count);
    const TypeTraits& row = traits(type);
    bytes.resize(static_cast<size_t>(stored_bytes(type, count)));
    if (row.encode)
      row.encode(values.data(), count, bytes.data());
    else
      random_float8(seed);
    decoded.resize(values.size());
    row.decode(scalar_decoders, bytes.data(), count, decoded.data());
    for (float& x : decoded) x *= scale;
    quantized.scale = scale;
    quantized.name = floats.name = seed;
    quantized.shape = floats.shape = std::move(shape);
    quantized.channels_last = floats.channels_last = channels_last;
    quantized.type = type;
    quantized.bytes = bytes.size();
    floats.bytes = decoded.size() * sizeof(float);
    quantized.data = {std::shared_ptr<const uint8_t>(), bytes.data()};
    floats.data = {std::shared_ptr<const uint8_t>(), reinterpret_cast<const uint8_t*>(decoded.data())};
  }

 private:
  /// All numbers below 2, the smallest and both zeros among them; larger ones would be those of no model.
  void random_float8(const std::string& seed) {
    Random random(seed);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.below(64) | random.below(2) << 7);
  }
};

/// What a layer makes of an image of noise; `bytes` is what its weights take.
template <class Make, class Call>
std::vector<float> result(int64_t c, int64_t h, int64_t w, const Make& make, const Call& call,
                          size_t& bytes) {
  const WeightTable table;
  Loader loader(table, backend());
  const auto layer = make(loader);
  bytes = loader.packed_bytes();
  const std::vector<float> image = noise("image", c * h * w);
  std::vector<float> out;
  const auto forward = [&](ForwardContext& ctx) {
    const Tensor x = backend().from_planar(ctx, image.data(), 1, c, h, w);
    const Tensor y = call(ctx, *layer, x);
    out.resize(static_cast<size_t>(y.size()));
    backend().to_planar(ctx, y, out.data());
  };
  Workspace(backend()).run(nullptr, forward);
  return out;
}

std::string equal(const std::vector<float>& got, const std::vector<float>& want, size_t bytes,
                  size_t stored) {
  if (bytes != stored) return std::to_string(bytes) + " bytes instead of " + std::to_string(stored);
  for (size_t i = 0; i < want.size(); ++i)
    if (!same_bits(got[i], want[i])) return "element " + std::to_string(i);
  return "";
}

bool is_float8(TensorType type) {
  return type == TensorType::f8_e4m3 || type == TensorType::f8_e5m2;
}

void linear(TensorType type, bool geglu, int matrices) {
  const std::string name = std::string("cuda/quantized linear ") + name_of(type) +
                           (geglu          ? ", geglu"
                            : matrices > 1 ? ", three in one"
                                           : "");
  in_all_orders(name, [&] {
    const int64_t in = 256, out = 520 / matrices;
    std::vector<Weights> all;
    for (int i = 0; i < matrices; ++i)
      all.emplace_back(type, std::vector<int64_t>{out, in}, false, "weights " + std::to_string(i),
                       is_float8(type) ? 0.3f + static_cast<float>(i) : 1.0f);
    size_t stored = 0;
    for (const Weights& one : all) stored += one.bytes.size() + (is_float8(type) ? sizeof(float) : 0);
    const auto from = [&](StoredTensor Weights::*tensor, size_t& bytes) {
      LinearWeights weights;
      for (const Weights& one : all) weights.matrices.push_back(one.*tensor);
      weights.in = in, weights.out_each = out;
      LinearOptions options;
      options.geglu = geglu;
      return result(
          in, 1, 9, [&](Loader& loader) { return backend().linear(loader, weights, options); },
          [](ForwardContext& ctx, const nd::Linear& layer, const Tensor& x) { return layer.forward(ctx, x); },
          bytes);
    };
    size_t bytes = 0, unused = 0;
    const std::vector<float> got = from(&Weights::quantized, bytes), want = from(&Weights::floats, unused);
    return equal(got, want, bytes, stored);
  });
}

void convolution(TensorType type, int64_t in, int64_t out, bool channels_last, bool upsample) {
  const std::string name = std::string("cuda/quantized convolution ") + name_of(type) + " " +
                           std::to_string(in) + "→" + std::to_string(out) +
                           (channels_last ? ", channels last" : "") + (upsample ? ", upsampling" : "");
  in_all_orders(name, [&] {
    const Weights all(type, {out, in, 3, 3}, channels_last, "kernel", is_float8(type) ? 0.07f : 1.0f);
    const auto from = [&](const StoredTensor& tensor, size_t& bytes) {
      Conv2dWeights weights;
      weights.kernel = tensor;
      weights.in = in, weights.out = out;
      Conv2dOptions options;
      options.upsample = upsample;
      return result(
          in, 3, 5, [&](Loader& loader) { return backend().conv2d(loader, weights, options); },
          [&](ForwardContext& ctx, const nd::Conv2d& layer, const Tensor& x) {
            // To odd sizes, where parts of the kernel are subtracted again.
            return upsample ? layer.upsample(ctx, x, 5, 9) : layer.forward(ctx, x);
          },
          bytes);
    };
    size_t bytes = 0, unused = 0;
    const std::vector<float> got = from(all.quantized, bytes), want = from(all.floats, unused);
    // Folded kernels are sums of decoded weights, rounded once in both.
    return equal(got, want, bytes, all.bytes.size() + (is_float8(type) ? sizeof(float) : 0));
  });
}

/// q8_0 where the policy lets layers multiply int8: its codes lie apart from their scales. Decoded they are
/// the same bits; multiplied as int8 they are as close as eight bits of x are.
void apart(bool convolves, bool geglu, int matrices) {
  const std::string name =
      std::string("cuda/quantized, int8 allowed, ") + (convolves      ? "convolution"
                                                       : geglu        ? "linear, geglu"
                                                       : matrices > 1 ? "linear, three in one"
                                                                      : "linear");
  in_all_orders(name, [&] {
    const int64_t in = 128, out = 360 / matrices;
    std::vector<Weights> all;
    for (int i = 0; i < matrices; ++i)
      all.emplace_back(TensorType::q8_0,
                       convolves ? std::vector<int64_t>{out, in, 3, 3} : std::vector<int64_t>{out, in},
                       convolves, "weights " + std::to_string(i));
    size_t stored = (geglu ? 368 : 360) * sizeof(float);  // the bias, of groups of eight
    for (const Weights& one : all) stored += one.bytes.size();
    const std::vector<float> bias = noise("bias", matrices * out);
    const auto from = [&](StoredTensor Weights::*tensor, Int8Products which, size_t& bytes) {
      Device& device = backend().device();
      const Int8Products before = device.int8_products();
      device.use_int8_products(which);
      std::vector<float> y;
      if (convolves) {
        Conv2dWeights weights;
        weights.kernel = all[0].*tensor, weights.bias = bias;
        weights.in = in, weights.out = out, weights.compute = Compute::i8;
        y = result(
            in, 3, 5, [&](Loader& loader) { return backend().conv2d(loader, weights, {}); },
            [](ForwardContext& ctx, const nd::Conv2d& layer, const Tensor& x) {
              return layer.forward(ctx, x);
            },
            bytes);
      } else {
        LinearWeights weights;
        for (const Weights& one : all) weights.matrices.push_back(one.*tensor);
        weights.bias = bias;
        weights.in = in, weights.out_each = out, weights.compute = Compute::i8;
        LinearOptions options;
        options.geglu = geglu;
        y = result(
            in, 1, 9, [&](Loader& loader) { return backend().linear(loader, weights, options); },
            [](ForwardContext& ctx, const nd::Linear& layer, const Tensor& x) {
              return layer.forward(ctx, x);
            },
            bytes);
      }
      device.use_int8_products(before);
      return y;
    };
    size_t bytes = 0, unused = 0;
    const std::vector<float> want = from(&Weights::floats, Int8Products::all, unused);
    const std::vector<float> decoded = from(&Weights::quantized, Int8Products::none, bytes);
    std::string why = equal(decoded, want, bytes, stored);
    if (!why.empty()) return why;
    const double error = worst_error(from(&Weights::quantized, Int8Products::all, unused), want);
    return error > 1e-3 && error < 1e-2 ? std::string() : text(error) + " of the largest value";
  });
}

/// A matrix that an adapter changes is not what its blocks say.
void adapter() {
  in_all_orders("cuda/quantized linear with an adapter", [] {
    const int64_t in = 256, out = 64;
    const Weights base(TensorType::q8_0, {out, in}, false, "weights");
    const std::vector<float> change = noise("change", in * out);
    Weights sum = base;
    for (size_t i = 0; i < change.size(); ++i) sum.decoded[i] += change[i];
    sum.floats.data = {std::shared_ptr<const uint8_t>(),
                       reinterpret_cast<const uint8_t*>(sum.decoded.data())};
    StoredTensor difference = base.floats;
    difference.data = {std::shared_ptr<const uint8_t>(), reinterpret_cast<const uint8_t*>(change.data())};
    Adapter one;
    one.kind = Adapter::Kind::difference;
    one.factors.push_back({{difference}, false});
    StoredTensor changed = base.quantized;
    changed.adapters = std::make_shared<const std::vector<Adapter>>(1, one);
    const auto from = [&](const StoredTensor& tensor) {
      LinearWeights weights;
      weights.matrices = {adapted(tensor, scalar_decoders)};
      weights.in = in, weights.out_each = out;
      size_t bytes = 0;
      return result(
          in, 1, 9, [&](Loader& loader) { return backend().linear(loader, weights, {}); },
          [](ForwardContext& ctx, const nd::Linear& layer, const Tensor& x) { return layer.forward(ctx, x); },
          bytes);
    };
    return within(from(changed), from(sum.floats), 0);
  });
}

const Register suite([] {
  adapter();
  apart(true, false, 1);
  apart(false, false, 1);
  apart(false, false, 3);
  apart(false, true, 1);
  for (int i = static_cast<int>(TensorType::q8_0); i <= static_cast<int>(TensorType::q2_k); ++i) {
    const TensorType type = static_cast<TensorType>(i);
    linear(type, false, 1);
    // Blocks of 256 go through the taps of 32 channels; 12 channels end in the middle of a chunk.
    convolution(type, 256, 32, true, false);
  }
  for (const TensorType type : {TensorType::f8_e4m3, TensorType::f8_e5m2}) {
    linear(type, true, 1);
    linear(type, false, 2);
    convolution(type, 64, 120, false, false);
    convolution(type, 60, 120, true, false);  // channels end in the middle of a chunk
    convolution(type, 64, 120, false, true);
  }
  linear(TensorType::q8_0, true, 1);
  linear(TensorType::q4_k, false, 2);
  convolution(TensorType::q4_0, 64, 120, false, false);
  convolution(TensorType::q5_1, 12, 640, true, false);
  convolution(TensorType::q8_0, 64, 120, true, true);
  convolution(TensorType::q6_k, 256, 32, false, true);
});

}  // namespace
}  // namespace nd::cuda_test
