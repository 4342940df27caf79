// Products of int8: what quantizes activations, bit by bit, and the kernels in every tile, split and
// epilogue, against sums in double of the very same codes and scales.
#include <algorithm>
#include <cmath>

#include "cuda/layers/moments.h"
#include "driver.h"
#include "support.h"

namespace nd::cuda_test {
namespace {

using namespace nd::cuda;

// Sums of 32 are exact; what is left are float32 sums of them, and the result, which is a half.
constexpr double kMost = 6e-4;

template <class T>
Array array_of(const std::vector<T>& values) {
  std::vector<float> words((values.size() * sizeof(T) + 3) / 4);
  std::memcpy(words.data(), values.data(), values.size() * sizeof(T));
  return Array::floats(words);
}

/// Codes and scale of the channels of a step, written out again.
struct Group {
  float scale;
  signed char codes[kInt8K] = {};

  explicit Group(const float* x) {
    float largest = 0;
    for (int i = 0; i < kInt8K; ++i) largest = std::max(largest, std::fabs(x[i]));
    scale = largest * (1.0f / 127.0f);
    const float inverse = 127.0f / largest;
    for (int i = 0; i < kInt8K && largest > 0; ++i)
      codes[i] = static_cast<signed char>(std::nearbyint(x[i] * inverse));
  }
};

void quantizing(int64_t pixels, int64_t c) {
  in_all_orders("cuda/int8 of " + std::to_string(pixels) + "x" + std::to_string(c), [&] {
    std::vector<float> x = random_halves("x", pixels * c);
    // Of all sizes from the smallest halves to the largest, zeros, and values between two codes.
    for (size_t i = 0; i < x.size(); ++i) {
      const size_t group = i / kInt8K;
      x[i] = rounded(group % 7 == 3 ? 0.0f : std::ldexp(x[i], static_cast<int>(group % 40) - 24));
    }
    x[0] = 65504.0f, x[1] = -65504.0f;
    for (size_t i = 2; i < 60; ++i) x[i] = rounded((static_cast<float>(i) - 30.5f) * (65504.0f / 127.0f));
    const Array from = Array::halves(x), codes(pixels * c), scales(pixels * c / kInt8K * 4);
    const QuantizeArgs args{from.as<half>(), {codes.as<signed char>(), scales.as<float>()}, pixels * c / 8};
    launch(Kernel::quantize_rows, {pieces_of(args.total, kMoveThreads)}, args);
    const std::vector<signed char> got = codes.read<signed char>(pixels * c);
    const std::vector<float> got_scales = scales.read<float>(pixels * c / kInt8K);
    for (size_t g = 0; g < got_scales.size(); ++g) {
      const Group want(&x[g * kInt8K]);
      if (!same_bits(got_scales[g], want.scale)) return "scale " + std::to_string(g);
      if (std::memcmp(&got[g * kInt8K], want.codes, kInt8K) != 0) return "codes " + std::to_string(g);
    }
    return std::string();
  });
}

/// A NaN or an infinity makes NaN of the channels that have its scale, and of nothing else.
void not_finite() {
  in_all_orders("cuda/int8 of NaN and infinity", [] {
    const int64_t c = 64;
    std::vector<float> x = random_halves("x", 4 * c);
    x[5] = std::numeric_limits<float>::quiet_NaN(), x[2 * c + 40] = -std::numeric_limits<float>::infinity();
    const Array from = Array::halves(x), codes(4 * c), scales(4 * c / kInt8K * 4);
    const QuantizeArgs args{from.as<half>(), {codes.as<signed char>(), scales.as<float>()}, 4 * c / 8};
    launch(Kernel::quantize_rows, {1}, args);
    const std::vector<float> got = scales.read<float>(4);
    for (size_t g = 0; g < got.size(); ++g)
      if (std::isnan(got[g]) != (g % 2 == 0)) return "scale " + std::to_string(g);
    return std::string();
  });
}

struct Shape {
  int64_t n, h, w, c, o;
  int64_t kernel = 1, stride = 1, before = 0, after = 0;

  int64_t taps() const { return kernel * kernel; }
  int64_t length(int64_t side) const { return (side + before + after - kernel) / stride + 1; }
  std::string name() const {
    return std::to_string(n) + "x" + std::to_string(h) + "x" + std::to_string(w) + ", " + std::to_string(c) +
           " to " + std::to_string(o) + ", kernel " + std::to_string(kernel) + ", stride " +
           std::to_string(stride) + (before != after ? ", padded behind" : "");
  }
};

struct End {
  ProductActivation activation = ProductActivation::none;
  bool bias = false, image_bias = false, residual = false, relu = false;
  float alpha = 1;

  std::string name() const {
    return "activation " + std::to_string(static_cast<int>(activation)) + (bias ? ", bias" : "") +
           (image_bias ? ", image bias" : "") + (residual ? ", residual" : "") + (relu ? ", relu" : "");
  }
};

double activated(double x, ProductActivation activation) {
  switch (activation) {
    case ProductActivation::silu:
      return x / (1 + std::exp(-x));
    case ProductActivation::gelu:
    case ProductActivation::geglu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case ProductActivation::quick_gelu:
      return x / (1 + std::exp(-1.702 * x));
    case ProductActivation::relu:
      return std::max(x, 0.0);
    default:
      return x;
  }
}

/// Random codes with random scales, and what they stand for.
template <class Scale>
struct Codes {
  std::vector<signed char> codes;
  std::vector<float> values;
  std::vector<Scale> scales;

  /// scale(b, random): of codes [b · group, (b + 1) · group); every fifth of them are all `extreme`.
  template <class MakeScale>
  Codes(const std::string& seed, int64_t count, int64_t group, int extreme, const MakeScale& scale)
      : codes(static_cast<size_t>(count)), values(codes.size()) {
    Random random(seed);
    const size_t size = static_cast<size_t>(group);
    for (size_t b = 0; b < codes.size() / size; ++b) {
      float value = 0;
      scales.push_back(scale(random, value));
      for (size_t i = b * size; i < (b + 1) * size; ++i) {
        codes[i] = static_cast<signed char>(b % 5 == 4 ? extreme : static_cast<int>(random.below(255)) - 127);
        values[i] = static_cast<float>(codes[i]) * value;
      }
    }
  }
};

float pixel_scale(Random& random, float& value) {
  return value = 0.01f + 0.005f * random.uniform();
}
uint16_t weight_scale(Random& random, float& value) {
  value = rounded((0.002f + 0.001f * random.uniform()) * (random.below(8) ? 1.0f : -1.0f));
  return to_half(value);
}

class Case {
 public:
  Case(const Shape& shape, const End& end)
      : s_(shape),
        end_(end),
        geglu_(end.activation == ProductActivation::geglu),
        columns_(geglu_ ? shape.o / 2 : shape.o),
        oh_(shape.length(shape.h)),
        ow_(shape.length(shape.w)),
        packed_(geglu_ ? 2 * ((columns_ + 7) / 8 * 8) : shape.o),
        x_("x", shape.n * shape.h * shape.w * shape.c, kInt8K, 127, pixel_scale),
        weights_("weights", shape.o * shape.taps() * shape.c, kInt8Block, -128, weight_scale),
        bias_(random_halves("bias", (packed_ + 7) / 8 * 8)),
        image_bias_(random_halves("image bias", shape.n * (packed_ + 3))),
        residual_(random_halves("residual", shape.n * oh_ * ow_ * columns_)) {}

  std::string run(int tile, int splits) const {
    const Array x = array_of(x_.codes), x_scales = array_of(x_.scales), weights = array_of(weights_.codes),
                weight_scales = array_of(weights_.scales), bias = Array::floats(bias_),
                image_bias = Array::halves(image_bias_), y = Array::halves(residual_);
    Int8ProductArgs args{};
    args.x = x.as<signed char>(), args.x_scales = x_scales.as<float>();
    args.weights = weights.as<signed char>(), args.weight_scales = weight_scales.as<uint32_t>();
    ProductArgs& a = args.product;
    a.bias = end_.bias ? bias.as<float>() : nullptr;
    a.image_bias = end_.image_bias ? image_bias.as<half>() : nullptr;
    a.image_bias_stride = narrow(packed_ + 3);
    a.y = y.as<half>();
    a.residual = end_.residual ? a.y : nullptr;
    a.m = narrow(s_.n * oh_ * ow_), a.o = narrow(packed_), a.c = narrow(s_.c);
    a.chunks = a.weights_chunks = narrow(s_.taps() * s_.c / 8);
    a.grid_w = narrow(ow_), a.grid_pixels = narrow(oh_ * ow_);
    a.h = narrow(s_.h), a.w = narrow(s_.w), a.stride = narrow(s_.stride);
    a.pad_y = a.pad_x = narrow(s_.before);
    a.kernel_w = narrow(s_.kernel);
    a.out_h = narrow(oh_), a.out_w = narrow(ow_), a.out_step = 1;
    a.parities = 1;
    a.y_columns = narrow(columns_);
    a.alpha = end_.alpha;
    a.activation = end_.activation;
    a.relu_after_residual = end_.relu;
    if (!suits_int8(a)) return "int8 does not suit this shape";
    ProductPlan plan = plan_int8_tile(a, tile, splits);
    if (!geglu_) plan_moments(plan, a);
    const Array moments(s_.n * std::max(1, plan.moment_pieces) * 3 * columns_ * 4);
    a.splits = plan.splits, a.split_steps = plan.split_steps, a.span = plan.span;
    a.moment_pieces = plan.moment_pieces;
    if (plan.moment_pieces && plan.splits == 1) a.moments = moments.as<float>();
    const int64_t padded = (packed_ + 7) / 8 * 8;
    const Array partial(plan.splits * a.m * padded * 4);
    a.partial = partial.as<float>();
    launch(plan.kernel, plan.grid, args);
    if (plan.splits > 1)
      launch(Kernel::product_finish, {pieces_of(a.m * padded / (geglu_ ? 16 : 8), kFinishThreads)}, a);
    const std::vector<float> got = y.read_halves(s_.n * oh_ * ow_ * columns_);
    if (a.moments) {
      std::string why = check_moments(got, moments, {s_.n, oh_ * ow_, columns_, plan.moment_pieces});
      if (!why.empty()) return why;
    }
    return within(got, truth(), kMost);
  }

 private:
  /// Before the bias; row o of the weights as they are stored.
  double sum(int64_t image, int64_t y, int64_t x, int64_t o) const {
    double result = 0;
    for (int64_t t = 0; t < s_.taps(); ++t) {
      const int64_t iy = y * s_.stride - s_.before + t / s_.kernel,
                    ix = x * s_.stride - s_.before + t % s_.kernel;
      if (iy < 0 || iy >= s_.h || ix < 0 || ix >= s_.w) continue;
      const float* from = &x_.values[static_cast<size_t>(((image * s_.h + iy) * s_.w + ix) * s_.c)];
      const float* w = &weights_.values[static_cast<size_t>((o * s_.taps() + t) * s_.c)];
      for (int64_t c = 0; c < s_.c; ++c) result += static_cast<double>(from[c]) * w[c];
    }
    return result * end_.alpha;
  }

  std::vector<float> truth() const {
    std::vector<float> result;
    for (int64_t i = 0; i < s_.n * oh_ * ow_ * columns_; ++i) {
      const int64_t column = i % columns_, pixel = i / columns_, image = pixel / (oh_ * ow_);
      const int64_t y = pixel / ow_ % oh_, x = pixel % ow_;
      const int64_t packed = geglu_ ? column / 8 * 16 + column % 8 : column;
      const auto with_bias = [&](int64_t row, int64_t at) {
        return sum(image, y, x, row) + (end_.bias ? bias_[static_cast<size_t>(at)] : 0);
      };
      double value = with_bias(column, packed);
      if (geglu_) value *= activated(with_bias(columns_ + column, packed + 8), end_.activation);
      if (end_.image_bias) value += image_bias_[static_cast<size_t>(image * (packed_ + 3) + column)];
      if (!geglu_) value = activated(value, end_.activation);
      if (end_.residual) value += residual_[static_cast<size_t>(i)];
      if (end_.relu) value = std::max(value, 0.0);
      result.push_back(static_cast<float>(value));
    }
    return result;
  }

  Shape s_;
  End end_;
  bool geglu_;
  int64_t columns_, oh_, ow_, packed_;
  Codes<float> x_;
  Codes<uint16_t> weights_;
  std::vector<float> bias_, image_bias_, residual_;
};

void run(const Shape& shape, const End& end, int tile, int splits) {
  in_all_orders("cuda/int8 product " + shape.name() + ", " + end.name() + ", tile " + std::to_string(tile) +
                    ", splits " + std::to_string(splits),
                [&] { return Case(shape, end).run(tile, splits); });
}

/// Turing multiplies halves, whatever was asked for.
void turing() {
  if (on_hardware()) return;
  in_orders({0}, "cuda/int8 on Turing", [] {
    ProductArgs a{};
    a.m = a.grid_pixels = a.grid_w = a.w = 9, a.h = 1, a.o = 64, a.c = 64, a.chunks = a.weights_chunks = 8;
    a.parities = 1;
    const int before = emu::driver_options.capability;
    std::string why;
    for (const int capability : {75, 80}) {
      emu::driver_options.capability = capability;
      Device device(emu::driver(), 0, {});
      device.use_int8_products(Int8Products::all);
      if (prefers_int8(a, true, false, {}, device) != (capability == 80)) why = std::to_string(capability);
    }
    emu::driver_options.capability = before;
    return why;
  });
}

const Register suite([] {
  turing();
  quantizing(1, 64);
  quantizing(3, 128);
  quantizing(37, 192);
  not_finite();
  const End plain, all{ProductActivation::silu, true, true, true, true, 0.5f};
  const Shape shapes[] = {
      {1, 1, 1, 64, 1},
      {2, 3, 5, 128, 37},
      {1, 1, 200, 192, 136},
      {1, 7, 9, 64, 24, 3, 1, 1, 1},
      {2, 5, 7, 128, 37, 3, 1, 1, 1},
      {1, 12, 12, 64, 130, 3, 1, 1, 1},
      {1, 8, 7, 64, 24, 3, 2, 1, 1},
      {1, 8, 7, 64, 24, 3, 2, 0, 1},
      {3, 6, 5, 64, 16, 3, 1, 0, 0},
      {1, 5, 5, 64, 8, 1, 2, 0, 0},
  };
  for (const Shape& shape : shapes)
    for (int tile = 0; tile < kInt8TileCount; ++tile) {
      run(shape, plain, tile, 1);
      run(shape, all, tile, 1);
      if (shape.taps() * shape.c > 64) run(shape, all, tile, 2);
    }
  run({2, 5, 7, 128, 37, 3, 1, 1, 1}, all, 0, 7);  // splits begin in the middle of a tap
  const Shape row{2, 1, 9, 128, 48}, odd{1, 1, 9, 128, 40};
  for (const ProductActivation activation : {ProductActivation::gelu, ProductActivation::quick_gelu,
                                             ProductActivation::relu, ProductActivation::geglu})
    for (const int splits : {1, 2}) {
      run(row, {activation, true, false, true}, 0, splits);
      run(row, {activation, true}, 2, splits);
      run(odd, {activation, true}, 1, splits);  // 20 values and 20 gates
    }
});

}  // namespace
}  // namespace nd::cuda_test
