#include "cuda/trial/hopper_cases.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cuda/layers/attention.h"
#include "cuda/layers/moments.h"
#include "weights/formats/half.h"

namespace nd::cuda {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int64_t kNumbers = int64_t{16} << 20, kOutput = int64_t{8} << 20;  // halves
constexpr int64_t kUploaded = int64_t{1} << 18;                              // they repeat
constexpr int64_t kFloats = 1024;
constexpr int64_t kGuard = 256;  // elements behind an output
/// Twice what the tests of kernels allow, as both of them are rounded.
constexpr double kProductTolerance = 1.2e-3, kAttentionTolerance = 3e-3;

/// Numbers in [−1, 1).
class Random {
 public:
  float next() {
    state_ = state_ * 1664525u + 1013904223u;
    return static_cast<float>(state_ >> 8) * 0x1p-23f - 1.0f;
  }

 private:
  uint32_t state_ = 1;
};

size_t bytes_of(int64_t halves) {
  return static_cast<size_t>(halves) * 2;
}

size_t moments_bytes(const HopperCase& one) {
  return static_cast<size_t>(one.pieces * 3 * one.columns) * sizeof(float);
}

}  // namespace

HopperCases::HopperCases(const Device& device, StreamHandle stream) : device_(device), stream_(stream) {
  Random random;
  std::vector<uint16_t> halves(kUploaded);
  for (uint16_t& half : halves) half = float_to_half(random.next());
  std::vector<float> floats(kFloats);
  for (float& x : floats) x = random.next();
  numbers_ = device.allocate(bytes_of(kNumbers));
  floats_ = device.allocate(floats.size() * sizeof(float));
  for (Address& output : outputs_) output = device.allocate(bytes_of(kOutput));
  device.upload(numbers_, halves.data(), bytes_of(kUploaded), stream);
  for (int64_t filled = kUploaded; filled < kNumbers; filled *= 2)
    device.copy(numbers_ + bytes_of(filled), numbers_, bytes_of(filled), stream);
  device.upload(floats_, floats.data(), floats.size() * sizeof(float), stream);
}

const half* HopperCases::numbers(int64_t first) const {
  return pointer<half>(numbers_ + bytes_of(first));
}

ProductArgs HopperCases::arguments(const TrialProduct& s) const {
  const int64_t taps = s.upsample ? 4 : s.kernel * s.kernel, out = s.upsample ? 2 : 1;
  const int64_t columns = s.geglu ? s.o / 2 : s.o;
  ProductArgs a{};
  a.x = numbers(0);
  a.weights = numbers(s.n * s.h * s.w * s.c);
  if (s.epilogue) {
    a.bias = pointer<float>(floats_);
    a.image_bias = numbers(kUploaded / 2);
    a.image_bias_stride = narrow(s.o);
    a.residual = numbers(kUploaded / 4);
  }
  a.m = narrow(s.n * s.h * s.w), a.o = narrow(s.o), a.c = narrow(s.c);
  a.chunks = a.weights_chunks = narrow(taps * s.c / 8);
  a.grid_w = narrow(s.w), a.grid_pixels = narrow(s.h * s.w);
  a.h = narrow(s.h), a.w = narrow(s.w), a.stride = 1;
  a.pad_y = a.pad_x = s.upsample || s.kernel > 1;
  a.kernel_w = s.upsample ? 2 : narrow(s.kernel);
  a.out_h = narrow(out * s.h), a.out_w = narrow(out * s.w), a.out_step = narrow(out);
  a.parities = s.upsample ? 4 : 1;
  a.y_columns = narrow(columns);
  a.constant_weights = true;
  a.alpha = 0.25f;
  a.activation = s.geglu      ? ProductActivation::geglu
                 : s.epilogue ? ProductActivation::silu
                              : ProductActivation::none;
  return a;
}

std::function<void(StreamHandle)> HopperCases::launch(ProductArgs args, const ProductPlan& plan, half* y) {
  args.y = y;
  args.splits = plan.splits, args.split_steps = plan.split_steps, args.span = plan.span;
  const int64_t columns = pieces_of(args.o, 8) * 8;
  if (plan.splits > 1)
    args.partial =
        pointer<float>(device_.allocate(static_cast<size_t>(plan.splits * args.m * columns) * sizeof(float)));
  const int64_t pieces = args.m * columns / (args.activation == ProductActivation::geglu ? 16 : 8);
  // Encoding tensor maps would take longer than short kernels.
  const HopperProductArgs hopper =
      is_hopper(plan.kernel) ? hopper_arguments(device_.driver(), args, plan) : HopperProductArgs{};
  return [hopper, args, plan, pieces, this](StreamHandle stream) {
    if (is_hopper(plan.kernel))
      device_.launch(stream, plan.kernel, plan.grid, hopper);
    else
      device_.launch(stream, plan.kernel, plan.grid, args);
    if (plan.splits > 1)
      device_.launch(stream, Kernel::product_finish, {pieces_of(pieces, kFinishThreads)}, args);
  };
}

HopperCase HopperCases::product(const TrialProduct& shape, int tile, int32_t splits) {
  const ProductArgs args = arguments(shape);
  const bool pointwise = shape.kernel == 1 && !shape.upsample;
  const ProductPlan everywhere = plan_product(args, pointwise, device_);
  ProductPlan hopper = plan_hopper_tile(args, pointwise, tile, splits);
  HopperCase result;
  result.kernel = hopper.kernel;
  result.everywhere = launch(args, everywhere, pointer<half>(outputs_[0]));
  ProductArgs with_moments = args;
  if (shape.moments) {
    plan_moments(hopper, args);
    result.pieces = hopper.moment_pieces, result.columns = args.y_columns;
    result.moments = device_.allocate(moments_bytes(result));
    with_moments.moments = pointer<float>(result.moments);
    with_moments.moment_pieces = hopper.moment_pieces;
  }
  result.hopper = launch(with_moments, hopper, pointer<half>(outputs_[1]));
  result.elements = int64_t{args.m} * args.parities * args.y_columns;
  result.tolerance = kProductTolerance;
  result.modelled = everywhere.microseconds;
  return result;
}

HopperCase HopperCases::attention(const SelfAttentionShape& s) {
  const int64_t inner = s.heads * s.head_dim, row = 3 * inner;
  const Kernel kernel = attention_kernel(s.head_dim);
  AttentionArgs a{};
  a.q = numbers(0), a.out = pointer<half>(outputs_[0]);
  for (int64_t i = 0; i < s.images; ++i) a.keys[i] = numbers(i * s.length * row + inner);
  a.q_image = s.length * row, a.out_image = s.length * inner;
  a.ldq = a.ldk = narrow(row), a.ldo = narrow(inner), a.v_offset = inner;
  a.q_length = a.k_length = narrow(s.length), a.head_dim = narrow(s.head_dim);
  a.slices = 1;
  a.scale = attention_scale(s.head_dim);
  a.aligned = 1;
  const Grid grid{pieces_of(s.length, attention_queries(kernel)), s.heads, s.images};
  HopperCase result;
  result.kernel = hopper_attention_kernel(s.head_dim);
  result.everywhere = [this, kernel, grid, a](StreamHandle stream) {
    device_.launch(stream, kernel, grid, a);
  };
  const HopperAttentionArgs hopper =
      hopper_attention_arguments(device_.driver(), numbers(0), pointer<half>(outputs_[1]), s);
  result.hopper = [hopper, s, this, kernel = result.kernel](StreamHandle stream) {
    device_.launch(stream, kernel, hopper_attention_grid(s), hopper);
  };
  result.elements = s.images * s.length * inner;
  result.tolerance = kAttentionTolerance;
  return result;
}

void HopperCases::clear(const HopperCase& one) const {
  for (const Address output : outputs_)
    device_.copy(output, numbers_, bytes_of(one.elements + kGuard), stream_);
  if (one.pieces) device_.copy(one.moments, numbers_, moments_bytes(one), stream_);
}

double HopperCases::difference(const HopperCase& one) const {
  std::vector<uint16_t> values[2];
  for (int i = 0; i < 2; ++i) {
    values[i].resize(static_cast<size_t>(one.elements + kGuard));
    device_.download(values[i].data(), outputs_[i], values[i].size() * 2, stream_);
  }
  double largest = 0, worst = 0;
  for (size_t i = 0; i < values[0].size(); ++i) {
    const double a = half_to_float(values[0][i]), b = half_to_float(values[1][i]);
    if (!std::isfinite(a) || !std::isfinite(b)) return kInfinity;
    largest = std::max(largest, std::fabs(a));
    worst = std::max(worst, std::fabs(a - b));
  }
  if (!(largest > 0)) return kInfinity;
  const double of_moments = one.pieces ? moments_difference(one, values[1], largest) : 0;
  return std::max(worst / largest, of_moments);
}

double HopperCases::moments_difference(const HopperCase& one, const std::vector<uint16_t>& output,
                                       double largest) const {
  const int64_t columns = one.columns, pixels = one.elements / columns;
  std::vector<float> parts(moments_bytes(one) / sizeof(float));
  device_.download(parts.data(), one.moments, moments_bytes(one), stream_);
  double worst = 0;
  for (int64_t column = 0; column < columns; ++column) {
    const auto value = [&](int64_t pixel) -> double {
      return half_to_float(output[static_cast<size_t>(pixel * columns + column)]);
    };
    double mean = 0, squares = 0;
    for (int64_t i = 0; i < pixels; ++i) mean += value(i) / static_cast<double>(pixels);
    for (int64_t i = 0; i < pixels; ++i) squares += (value(i) - mean) * (value(i) - mean);
    double count = 0, sum = 0, sum_of_squares = 0;  // about the mean above
    for (int64_t piece = 0; piece < one.pieces; ++piece) {
      const float* part = &parts[static_cast<size_t>(piece * 3 * columns + column)];
      const double n = part[0], delta = part[columns] - mean;
      count += n, sum += n * delta, sum_of_squares += part[2 * columns] + n * delta * delta;
    }
    const double off_by[] = {std::fabs(count / static_cast<double>(pixels) - 1),
                             std::fabs(sum / static_cast<double>(pixels)) / largest,
                             std::fabs(sum_of_squares - squares) / squares};
    for (const double x : off_by) {
      if (!std::isfinite(x)) return kInfinity;
      worst = std::max(worst, x);
    }
  }
  return worst;
}

}  // namespace nd::cuda
