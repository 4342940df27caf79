// Products in every tile, split and epilogue, against sums in double.
#include <cmath>

#include "cuda/layers/moments.h"
#include "support.h"

namespace nd::cuda_test {
namespace {

using namespace nd::cuda;

// Inputs are halves, so that only sums (in float32) and the result (a half) are rounded.
constexpr double kMost = 6e-4;

struct Shape {
  int64_t n, h, w, c, o;
  int64_t kernel = 1, stride = 1, before = 0, after = 0;
  bool upsample = false;
  int64_t second = 0;  // of the channels, which are those of another tensor

  int64_t taps() const { return upsample ? 4 : kernel * kernel; }
  int64_t chunks() const { return taps() * ((c + 7) / 8); }
  int64_t length(int64_t side) const {
    return upsample ? 2 * side : (side + before + after - kernel) / stride + 1;
  }
  std::string name() const {
    return std::to_string(n) + "x" + std::to_string(h) + "x" + std::to_string(w) + ", " + std::to_string(c) +
           " to " + std::to_string(o) + ", kernel " + std::to_string(kernel) + ", stride " +
           std::to_string(stride) + (before != after ? ", padded behind" : "") +
           (upsample ? ", upsampling" : "") +
           (second ? ", of which another tensor has " + std::to_string(second) : "");
  }
};

struct End {
  ProductActivation activation = ProductActivation::none;
  bool bias = false, image_bias = false, residual = false, relu = false;
  float alpha = 1;
  bool moments = false;

  std::string name() const {
    return "activation " + std::to_string(static_cast<int>(activation)) + (bias ? ", bias" : "") +
           (image_bias ? ", image bias" : "") + (residual ? ", residual" : "") + (relu ? ", relu" : "") +
           (moments ? ", moments" : "");
  }
};

double activated(double x, ProductActivation activation) {
  switch (activation) {
    case ProductActivation::silu:
      return x / (1 + std::exp(-x));
    case ProductActivation::gelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case ProductActivation::quick_gelu:
      return x / (1 + std::exp(-1.702 * x));
    case ProductActivation::relu:
      return std::max(x, 0.0);
    default:
      return x;
  }
}

class Case {
 public:
  Case(const Shape& shape, const End& end) : s_(shape), end_(end) {
    const int64_t planes = s_.upsample ? 4 : 1, row = s_.chunks() * 8, padded = (s_.c + 7) / 8 * 8;
    x_ = random_halves("x", s_.n * s_.h * s_.w * s_.c);
    weights_ =
        random_halves("weights", planes * s_.o * row, 1 / std::sqrt(static_cast<float>(s_.taps() * s_.c)));
    for (int64_t i = 0; i < planes * s_.o * row; ++i)
      if (i % padded >= s_.c) weights_[static_cast<size_t>(i)] = 0;
    geglu_ = end_.activation == ProductActivation::geglu;
    columns_ = geglu_ ? s_.o / 2 : s_.o;
    oh_ = s_.length(s_.h), ow_ = s_.length(s_.w);
    bias_ = random_halves("bias", (s_.o + 7) / 8 * 8);
    // A mean far from zero, which sums of squares alone would lose.
    if (end_.moments)
      for (float& value : bias_) value += 30;
    image_bias_ = random_halves("image bias", s_.n * (s_.o + 3));
    residual_ = random_halves("residual", s_.n * oh_ * ow_ * columns_);
  }

  std::string run(int tile, int splits) const {
    const int64_t size = s_.n * oh_ * ow_ * columns_;
    const Array x = Array::halves(channels_of(x_, s_.c, 0, s_.c - s_.second)),
                second = Array::halves(channels_of(x_, s_.c, s_.c - s_.second, s_.second)),
                weights = Array::halves(weights_), bias = Array::floats(bias_),
                image_bias = Array::halves(image_bias_), y = Array::halves(residual_);
    ProductArgs a{};
    a.second = s_.second ? second.as<half>() : nullptr, a.second_c = narrow(s_.second);
    a.x = x.as<half>(), a.weights = weights.as<half>();
    a.bias = end_.bias ? bias.as<float>() : nullptr;
    a.image_bias = end_.image_bias ? image_bias.as<half>() : nullptr;
    a.image_bias_stride = narrow(s_.o + 3);
    a.y = y.as<half>();
    a.residual = end_.residual ? a.y : nullptr;
    const int64_t gh = s_.upsample ? s_.h : oh_, gw = s_.upsample ? s_.w : ow_;
    a.m = narrow(s_.n * gh * gw), a.o = narrow(s_.o), a.c = narrow(s_.c);
    a.chunks = a.weights_chunks = narrow(s_.chunks());
    a.grid_w = narrow(gw), a.grid_pixels = narrow(gh * gw);
    a.h = narrow(s_.h), a.w = narrow(s_.w), a.stride = narrow(s_.stride);
    a.pad_y = a.pad_x = s_.upsample ? 1 : narrow(s_.before);
    a.kernel_w = s_.upsample ? 2 : narrow(s_.kernel);
    a.out_h = narrow(oh_), a.out_w = narrow(ow_);
    a.out_step = s_.upsample ? 2 : 1;
    a.parities = s_.upsample ? 4 : 1;
    a.y_columns = narrow(columns_);
    a.alpha = end_.alpha;
    a.activation = end_.activation;
    a.relu_after_residual = end_.relu;
    const bool pointwise = s_.kernel == 1 && s_.stride == 1 && !s_.upsample;
    ProductPlan plan = tile < kTiles ? plan_tile(a, pointwise, tile, splits)
                                     : plan_hopper_tile(a, pointwise, tile - kTiles, splits);
    if (end_.moments) plan_moments(plan, a);
    a.splits = plan.splits, a.split_steps = plan.split_steps;
    a.span = plan.span, a.moment_pieces = plan.moment_pieces;
    const Array moments(s_.n * plan.moment_pieces * 3 * columns_ * 4);
    if (end_.moments && !plan.moment_pieces) return "no moments are taken";
    const int64_t padded = (s_.o + 7) / 8 * 8;
    const Array partial(plan.splits * a.m * padded * 4);
    a.partial = partial.as<float>();
    a.constant_weights = plan.splits % 2;  // either way
    if (end_.moments && plan.splits == 1) a.moments = moments.as<float>();
    if (tile < kTiles)
      launch(plan.kernel, plan.grid, a);
    else
      launch(plan.kernel, plan.grid, hopper(a, plan));
    if (plan.splits > 1 && end_.moments) {
      a.moments = moments.as<float>();
      launch(Kernel::product_finish_moments, {plan.moment_pieces, pieces_of(a.o, kMomentChannels), s_.n}, a);
    } else if (plan.splits > 1) {
      launch(Kernel::product_finish, {pieces_of(a.m * padded / (geglu_ ? 16 : 8), kFinishThreads)}, a);
    }
    const std::vector<float> got = y.read_halves(size);
    if (end_.moments) {
      std::string why = check_moments(got, moments, {s_.n, oh_ * ow_, columns_, plan.moment_pieces});
      if (!why.empty()) return why;
    }
    return within(got, truth(), kMost);
  }

 private:
  static HopperProductArgs hopper(const ProductArgs& a, const ProductPlan& plan) {
    const Device& device = backend().device();
    const Device::Current current(device);
    return hopper_arguments(device.driver(), a, plan);
  }
  double sum(int64_t image, int64_t y, int64_t x, int64_t o) const {
    const int64_t padded = (s_.c + 7) / 8 * 8, side = s_.upsample ? 2 : s_.kernel;
    const int64_t parity = s_.upsample ? y % 2 * 2 + x % 2 : 0;
    double result = 0;
    for (int64_t t = 0; t < s_.taps(); ++t) {
      const int64_t iy = s_.upsample ? y / 2 - 1 + y % 2 + t / side : y * s_.stride - s_.before + t / side;
      const int64_t ix = s_.upsample ? x / 2 - 1 + x % 2 + t % side : x * s_.stride - s_.before + t % side;
      if (iy < 0 || iy >= s_.h || ix < 0 || ix >= s_.w) continue;
      const float* from = &x_[static_cast<size_t>(((image * s_.h + iy) * s_.w + ix) * s_.c)];
      const float* w = &weights_[static_cast<size_t>(((parity * s_.o + o) * s_.taps() + t) * padded)];
      for (int64_t c = 0; c < s_.c; ++c) result += static_cast<double>(from[c]) * w[c];
    }
    return result * end_.alpha + (end_.bias ? bias_[static_cast<size_t>(o)] : 0);
  }

  std::vector<float> truth() const {
    std::vector<float> result;
    for (int64_t i = 0; i < s_.n * oh_ * ow_ * columns_; ++i) {
      const int64_t column = i % columns_, pixel = i / columns_, image = pixel / (oh_ * ow_);
      const int64_t y = pixel / ow_ % oh_, x = pixel % ow_;
      double value;
      if (geglu_) {
        const int64_t at = column / 8 * 16 + column % 8;
        value = sum(image, y, x, at) * activated(sum(image, y, x, at + 8), ProductActivation::gelu);
      } else {
        value = sum(image, y, x, column);
        if (end_.image_bias) value += image_bias_[static_cast<size_t>(image * (s_.o + 3) + column)];
        value = activated(value, end_.activation);
      }
      if (end_.residual) value += residual_[static_cast<size_t>(i)];
      if (end_.relu) value = std::max(value, 0.0);
      result.push_back(static_cast<float>(value));
    }
    return result;
  }

  Shape s_;
  End end_;
  bool geglu_ = false;
  int64_t columns_ = 0, oh_ = 0, ow_ = 0;
  std::vector<float> x_, weights_, bias_, image_bias_, residual_;
};

void run(const Shape& shape, const End& end, int tile, int splits) {
  in_all_orders("cuda/product " + shape.name() + ", " + end.name() + ", tile " + std::to_string(tile) +
                    ", splits " + std::to_string(splits),
                [&] { return Case(shape, end).run(tile, splits); });
}

/// `first` channels of one tensor and `second` of another.
Shape joined(int64_t n, int64_t h, int64_t w, int64_t first, int64_t second, int64_t o) {
  Shape shape{n, h, w, first + second, o};
  shape.second = second;
  return shape;
}

/// Products of two tensors. Splits end within either, and at the border.
void two_tensors(const End& plain, const End& all, const End& moments) {
  const Shape shapes[] = {joined(1, 1, 1, 32, 8, 1), joined(2, 3, 5, 32, 32, 37),
                          joined(1, 1, 200, 96, 40, 136), joined(1, 9, 9, 64, 104, 24)};
  for (const Shape& shape : shapes)
    for (int tile = 0; tile < kTiles; ++tile) {
      run(shape, plain, tile, 1);
      run(shape, all, tile, 1);
      for (const int splits : {2, 3}) run(shape, all, tile, splits);
      if (shape.n == 1) run(shape, moments, tile, 1);
    }
  run(shapes[3], moments, 2, 3);
  if (!backend().device().has_warpgroup_products()) return;
  const Shape hopper[] = {joined(1, 1, 1, 64, 8, 1), joined(2, 3, 5, 64, 64, 37),
                          joined(1, 1, 200, 192, 72, 136)};
  for (const Shape& shape : hopper)
    for (int tile = kTiles; tile < kTiles + kHopperTileCount; ++tile) {
      run(shape, plain, tile, 1);
      run(shape, all, tile, 1);
      run(shape, all, tile, 2);
      if (shape.n == 1) run(shape, moments, tile, 1);
    }
}

const Register suite([] {
  const End plain, all{ProductActivation::silu, true, true, true, true, 0.5f};
  const Shape shapes[] = {
      {1, 1, 1, 8, 1},
      {2, 3, 5, 40, 37},
      {1, 1, 200, 72, 136},
      {1, 1, 9, 3, 5},
      {1, 7, 9, 16, 24, 3, 1, 1, 1},
      {2, 5, 7, 40, 37, 3, 1, 1, 1},
      {1, 12, 12, 8, 130, 3, 1, 1, 1},
      {1, 6, 5, 4, 16, 3, 1, 1, 1},
      {1, 8, 7, 16, 24, 3, 2, 1, 1},
      {1, 8, 7, 12, 24, 3, 2, 0, 1},
      {2, 4, 3, 24, 40, 3, 1, 1, 1, true},
      {1, 3, 5, 5, 7, 3, 1, 1, 1, true},
      {1, 5, 5, 16, 8, 1, 2, 0, 0},
  };
  for (const Shape& shape : shapes)
    for (int tile = 0; tile < kTiles; ++tile) {
      run(shape, plain, tile, 1);
      run(shape, all, tile, 1);
      if (!shape.upsample && shape.chunks() > 4) run(shape, all, tile, 3);
    }
  // Moments of one image, of images that tiles do not cross, and of such that begin tiles of their own.
  End moments{ProductActivation::silu, true, true, true, false, 0.5f};
  moments.moments = true;
  const Shape measured[] = {{1, 1, 1, 8, 1},
                            {1, 1, 200, 72, 136},
                            {1, 1, 70, 5, 37},
                            {1, 7, 9, 16, 24, 3, 1, 1, 1},
                            {2, 16, 16, 8, 136, 3, 1, 1, 1},
                            {1, 8, 7, 32, 24, 3, 2, 1, 1},
                            {1, 9, 8, 24, 40, 3, 1, 1, 1, true},
                            {2, 33, 30, 8, 40}};
  for (const Shape& shape : measured)
    for (int tile = 0; tile < kTiles; ++tile) {
      run(shape, moments, tile, 1);
      if (!shape.upsample && shape.chunks() > 4) run(shape, moments, tile, 3);
    }
  run({3, 5, 7, 16, 70, 3, 1, 1, 1}, moments, 2, 2);
  two_tensors(plain, all, moments);
  // Odd sizes in the grid, in channels and in the boxes of 128 pixels; and those of real layers, in small.
  const Shape hopper_shapes[] = {
      {1, 1, 1, 8, 1},
      {2, 3, 5, 40, 37},
      {1, 1, 200, 72, 136},
      {1, 7, 9, 16, 24, 3, 1, 1, 1},
      {2, 5, 7, 40, 37, 3, 1, 1, 1},
      {2, 8, 8, 136, 264, 3, 1, 1, 1},
      {1, 12, 12, 8, 130, 3, 1, 1, 1},
      {3, 6, 5, 72, 16, 3, 1, 0, 0},
      {2, 4, 3, 24, 40, 3, 1, 1, 1, true},
  };
  if (backend().device().has_warpgroup_products()) {
    run({2, 16, 16, 24, 136, 3, 1, 1, 1}, moments, kTiles, 1);
    run({2, 1, 256, 24, 40}, moments, kTiles + 1, 1);
    run({2, 8, 16, 24, 40, 3, 1, 1, 1, true}, moments, kTiles, 1);
    run({2, 8, 8, 136, 40, 3, 1, 1, 1}, moments, kTiles, 3);
    run({2, 8, 16, 72, 320, 3, 1, 1, 1}, moments, kTiles + 2, 1);
    for (const Shape& shape : hopper_shapes)
      for (int tile = kTiles; tile < kTiles + kHopperTileCount; ++tile) {
        run(shape, plain, tile, 1);
        run(shape, all, tile, 1);
        if (!shape.upsample && shape.kernel > 1) run(shape, all, tile, 3);
        if (shape.n == 1) run(shape, moments, tile, 1);
      }
  }
  const Shape row{2, 1, 9, 24, 48};
  for (const ProductActivation activation : {ProductActivation::gelu, ProductActivation::quick_gelu,
                                             ProductActivation::relu, ProductActivation::geglu})
    for (const int splits : {1, 2}) {
      run(row, {activation, true, false, true}, 0, splits);
      run(row, {activation, true}, 2, splits);
      if (backend().device().has_warpgroup_products())
        run({2, 1, 9, 72, 48}, {activation, true, false, true}, kTiles, splits);
    }
});

}  // namespace
}  // namespace nd::cuda_test
