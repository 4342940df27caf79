// Normalizations against moments in double.
#include <cmath>

#include "support.h"

namespace nd::cuda_test {
namespace {

using namespace nd::cuda;

constexpr double kMost = 1e-3;
constexpr float kEps = 1e-5f;

/// Values with a mean far from zero, which sums of squares alone would lose.
std::vector<float> shifted(const std::string& seed, int64_t count, float mean) {
  std::vector<float> values = random_halves(seed, count);
  for (float& value : values) value = rounded(value + mean);
  return values;
}

enum class Way { in_two, in_one, in_bands };

/// Of two inputs, where `second` of the channels are those of another tensor.
void group_norm(int64_t n, int64_t pixels, int64_t c, int64_t groups, float mean, Way way,
                int64_t second = 0) {
  const std::string name = "cuda/group norm " + std::to_string(n) + "x" + std::to_string(pixels) + "x" +
                           std::to_string(c) + ", groups " + std::to_string(groups) + ", mean " + text(mean) +
                           (second ? ", of which another tensor has " + std::to_string(second) : "") +
                           (way == Way::in_bands ? ", in bands"
                            : way == Way::in_one ? ", in one kernel"
                                                 : "");
  in_all_orders(name, [=] {
    const std::vector<float> x = shifted("x", n * pixels * c, mean), gamma = random_halves("gamma", c),
                             beta = random_halves("beta", c);
    const int64_t c0 = c - second, pieces = pieces_of(pixels, kMomentRows);
    const Array a = Array::halves(channels_of(x, c, 0, c0)), b = Array::halves(channels_of(x, c, c0, second)),
                dg = Array::floats(gamma), db = Array::floats(beta), y(n * pixels * c * 2),
                factors(n * 2 * c * 4), moments(n * pieces * 3 * c0 * 4),
                more_moments(std::max<int64_t>(1, n * pieces * 3 * second * 4)), total(3 * c * 4);
    const auto input = [&](const Array& of, const Array& into, int64_t channels) {
      const MomentsArgs args{of.as<half>(), into.as<float>(), narrow(pixels), narrow(channels),
                             narrow(pieces)};
      launch(Kernel::channel_moments, {pieces, pieces_of(channels, kMomentChannels), n}, args);
      return NormInput{args.x, args.moments, args.c, args.pieces};
    };
    const NormInputs inputs{input(a, moments, c0), second ? input(b, more_moments, second) : NormInput{}};
    GroupFactorsArgs group{
        inputs, dg.as<float>(), db.as<float>(), factors.as<float>(), narrow(c), narrow(groups), kEps};
    if (way == Way::in_bands) {
      launch(Kernel::merge_moments, {pieces_of(c, kMoveThreads)},
             MergeMomentsArgs{total.as<float>(), moments.as<float>(), narrow(c), narrow(pieces - 1), true});
      const float* last = moments.as<float>() + (pieces - 1) * 3 * c;
      launch(Kernel::merge_moments, {pieces_of(c, kMoveThreads)},
             MergeMomentsArgs{total.as<float>(), last, narrow(c), 1, false});
      group.x.first.moments = total.as<float>(), group.x.first.pieces = 1;
    }
    if (way == Way::in_one) {
      const int64_t slice = c % 8 == 0 ? 8 : 3, rows = 50;
      GroupNormArgs one{};
      one.x = inputs, one.gamma = group.gamma, one.beta = group.beta, one.y = y.as<half>();
      one.pixels = narrow(pixels), one.c = narrow(c), one.groups = narrow(groups);
      one.slice = narrow(slice * (c / groups)), one.rows = narrow(rows), one.eps = kEps, one.silu = true;
      launch(Kernel::group_norm, {pieces_of(groups, slice), pieces_of(pixels, rows), n}, one);
    } else {
      launch(Kernel::group_factors, {groups, n}, group);
      launch(Kernel::affine, {pieces_of(n * pixels * c, int64_t{8} * kMoveThreads)},
             AffineArgs{
                 inputs, factors.as<float>(), y.as<half>(), pixels * c, n * pixels * c, narrow(c), true, {}});
    }

    std::vector<float> want(x.size());
    const int64_t width = c / groups;
    for (int64_t image = 0; image < n; ++image)
      for (int64_t g = 0; g < groups; ++g) {
        double sum = 0, squares = 0;
        const auto at = [&](int64_t p, int64_t j) {
          return static_cast<size_t>((image * pixels + p) * c + g * width + j);
        };
        for (int64_t p = 0; p < pixels; ++p)
          for (int64_t j = 0; j < width; ++j) sum += x[at(p, j)];
        const double center = sum / static_cast<double>(pixels * width);
        for (int64_t p = 0; p < pixels; ++p)
          for (int64_t j = 0; j < width; ++j) squares += std::pow(x[at(p, j)] - center, 2);
        const double scale = 1 / std::sqrt(squares / static_cast<double>(pixels * width) + kEps);
        for (int64_t p = 0; p < pixels; ++p)
          for (int64_t j = 0; j < width; ++j) {
            const size_t channel = static_cast<size_t>(g * width + j);
            const double v = (x[at(p, j)] - center) * scale * gamma[channel] + beta[channel];
            want[at(p, j)] = static_cast<float>(v / (1 + std::exp(-v)));
          }
      }
    return within(y.read_halves(n * pixels * c), want, kMost);
  });
}

void modulate(int64_t n, int64_t pixels, int64_t c, bool gelu, int64_t second = 0) {
  in_all_orders(
      "cuda/modulate " + std::to_string(n) + "x" + std::to_string(pixels) + "x" + std::to_string(c) +
          (second ? ", of which another tensor has " + std::to_string(second) : "") + (gelu ? ", GELU" : ""),
      [=] {
        const int64_t row = 2 * c + 5, count = n * pixels * c;
        const std::vector<float> x = random_halves("x", count), factors = random_halves("factors", n * 2 * c),
                                 modulations = random_halves("modulations", n * row);
        const Array dx = Array::halves(channels_of(x, c, 0, c - second)),
                    more = Array::halves(channels_of(x, c, c - second, second)), df = Array::floats(factors),
                    dm = Array::halves(modulations), y(count * 2);
        launch(Kernel::modulate, {pieces_of(count, kMoveThreads)},
               ModulateArgs{{{dx.as<half>(), nullptr, narrow(c - second), 0},
                             {more.as<half>(), nullptr, narrow(second), 0}},
                            df.as<float>(),
                            dm.as<half>(),
                            y.as<half>(),
                            pixels * c,
                            count,
                            narrow(c),
                            narrow(row),
                            gelu});
        std::vector<float> want(x.size());
        for (int64_t i = 0; i < count; ++i) {
          const int64_t image = i / (pixels * c), channel = i % c;
          const auto factor = [&](int64_t j) {
            return static_cast<double>(factors[static_cast<size_t>(image * 2 * c + j * c + channel)]);
          };
          const auto modulation = [&](int64_t j) {
            return static_cast<double>(modulations[static_cast<size_t>(image * row + j * c + channel)]);
          };
          double v = x[static_cast<size_t>(i)] * factor(0) + factor(1);
          v = v * (1 + modulation(0)) + modulation(1);
          if (gelu) v *= 0.5 * (1 + std::erf(v / std::sqrt(2.0)));
          want[static_cast<size_t>(i)] = static_cast<float>(v);
        }
        return within(y.read_halves(count), want, kMost);
      });
}

void layer_norm(int64_t rows, int64_t c, float mean) {
  in_all_orders(
      "cuda/layer norm " + std::to_string(rows) + "x" + std::to_string(c) + ", mean " + text(mean), [=] {
        const std::vector<float> x = shifted("x", rows * c, mean), gamma = random_halves("gamma", c),
                                 beta = random_halves("beta", c);
        const Array dx = Array::halves(x), dg = Array::floats(gamma), db = Array::floats(beta),
                    y(rows * c * 2);
        launch(Kernel::layer_norm, {pieces_of(rows, kMoveThreads / 32)},
               LayerNormArgs{dx.as<half>(),
                             dg.as<float>(),
                             db.as<float>(),
                             y.as<half>(),
                             narrow(rows),
                             narrow(c),
                             kEps,
                             {}});
        std::vector<float> want(x.size());
        for (int64_t row = 0; row < rows; ++row) {
          double sum = 0, squares = 0;
          for (int64_t j = 0; j < c; ++j) sum += x[static_cast<size_t>(row * c + j)];
          const double center = sum / static_cast<double>(c);
          for (int64_t j = 0; j < c; ++j)
            squares += std::pow(x[static_cast<size_t>(row * c + j)] - center, 2);
          const double scale = 1 / std::sqrt(squares / static_cast<double>(c) + kEps);
          for (int64_t j = 0; j < c; ++j)
            want[static_cast<size_t>(row * c + j)] = static_cast<float>(
                (x[static_cast<size_t>(row * c + j)] - center) * scale * gamma[static_cast<size_t>(j)] +
                beta[static_cast<size_t>(j)]);
        }
        return within(y.read_halves(rows * c), want, kMost);
      });
}

/// What normalizes to int8 writes what quantize_rows makes of the halves, bit for bit: the codes and scales
/// of channels, of which some are all zeros, and of one a NaN.
class Int8Case {
 public:
  Int8Case(int64_t pixels, int64_t c) : pixels_(pixels), c_(c), x_(shifted("x", pixels * c, 3)) {
    x_[static_cast<size_t>(c) + 1] = std::numeric_limits<float>::quiet_NaN();
    gamma_ = random_halves("gamma", c), beta_ = random_halves("beta", c);
    for (size_t i = 0; i < kInt8K; ++i) gamma_[i] = beta_[i] = 0;
    dx_ = Array::halves(x_), dg_ = Array::floats(gamma_), db_ = Array::floats(beta_);
    halves_ = Array(pixels * c * 2);
    codes_ = Array(pixels * c), want_codes_ = Array(pixels * c);
    scales_ = Array(pixels * c / kInt8K * 4), want_scales_ = Array(pixels * c / kInt8K * 4);
  }
  const std::vector<float>& values() const { return x_; }
  const half* x() const { return dx_.as<half>(); }
  const float* gamma() const { return dg_.as<float>(); }
  const float* beta() const { return db_.as<float>(); }
  half* halves() const { return halves_.as<half>(); }
  Int8Rows int8() const { return {codes_.as<signed char>(), scales_.as<float>()}; }

  std::string compare() const {
    const int64_t size = pixels_ * c_;
    launch(Kernel::quantize_rows, {pieces_of(size / 8, kMoveThreads)},
           QuantizeArgs{halves(), {want_codes_.as<signed char>(), want_scales_.as<float>()}, size / 8});
    if (codes_.read<signed char>(size) != want_codes_.read<signed char>(size)) return "codes differ";
    // Not as floats, of which one is a NaN.
    if (scales_.read<uint32_t>(size / kInt8K) != want_scales_.read<uint32_t>(size / kInt8K))
      return "scales differ";
    return "";
  }

 private:
  int64_t pixels_, c_;
  std::vector<float> x_, gamma_, beta_;
  Array dx_, dg_, db_, halves_, codes_, want_codes_, scales_, want_scales_;
};

/// Of two inputs, where `second` of the channels are those of another tensor.
void group_norm_int8(int64_t n, int64_t pixels, int64_t c, int64_t groups, bool silu, int64_t second = 0) {
  in_all_orders(
      "cuda/group norm to int8 " + std::to_string(n) + "x" + std::to_string(pixels) + "x" +
          std::to_string(c) + ", groups " + std::to_string(groups) + (silu ? ", SiLU" : "") +
          (second ? ", of which another tensor has " + std::to_string(second) : ""),
      [=]() -> std::string {
        const Int8Case one(n * pixels, c);
        const int64_t pieces = pieces_of(pixels, kMomentRows), rows = 50, c0 = c - second;
        const Array a = Array::halves(channels_of(one.values(), c, 0, c0)),
                    b = Array::halves(channels_of(one.values(), c, c0, second)),
                    moments(n * pieces * 3 * c0 * 4),
                    more_moments(std::max<int64_t>(1, n * pieces * 3 * second * 4)), factors(n * 2 * c * 4);
        const auto input = [&](const Array& x, const Array& to, int64_t channels) {
          launch(Kernel::channel_moments, {pieces, pieces_of(channels, kMomentChannels), n},
                 MomentsArgs{x.as<half>(), to.as<float>(), narrow(pixels), narrow(channels), narrow(pieces)});
          return NormInput{x.as<half>(), to.as<float>(), narrow(channels), narrow(pieces)};
        };
        GroupNormArgs args{};
        args.x = {input(a, moments, c0), second ? input(b, more_moments, second) : NormInput{}};
        args.gamma = one.gamma(), args.beta = one.beta();
        args.pixels = narrow(pixels), args.c = narrow(c), args.groups = narrow(groups);
        args.rows = narrow(rows), args.eps = kEps, args.silu = silu;
        args.y = one.halves(), args.slice = narrow(c);
        launch(Kernel::group_norm, {1, pieces_of(pixels, rows), n}, args);
        // A slice has channels of groups that are not whole.
        args.y = nullptr, args.int8 = one.int8(), args.slice = kInt8K;
        launch(Kernel::group_norm_int8, {c / kInt8K, pieces_of(pixels, rows), n}, args);
        if (std::string why = one.compare(); !why.empty()) return why;

        launch(Kernel::group_factors, {groups, n},
               GroupFactorsArgs{args.x, one.gamma(), one.beta(), factors.as<float>(), narrow(c),
                                narrow(groups), kEps});
        AffineArgs affine{args.x,         factors.as<float>(), one.halves(), pixels * c,
                          n * pixels * c, narrow(c),           silu,         {}};
        const Grid grid{pieces_of(affine.total, int64_t{8} * kMoveThreads)};
        launch(Kernel::affine, grid, affine);
        affine.y = nullptr, affine.int8 = one.int8();
        launch(Kernel::affine_int8, grid, affine);
        const std::string why = one.compare();
        return why.empty() ? "" : "in two: " + why;
      });
}

void layer_norm_int8(int64_t rows, int64_t c) {
  in_all_orders("cuda/layer norm to int8 " + std::to_string(rows) + "x" + std::to_string(c), [=] {
    const Int8Case one(rows, c);
    LayerNormArgs args{one.x(), one.gamma(), one.beta(), one.halves(), narrow(rows), narrow(c), kEps, {}};
    const Grid grid{pieces_of(rows, kMoveThreads / 32)};
    launch(Kernel::layer_norm, grid, args);
    args.y = nullptr, args.int8 = one.int8();
    launch(Kernel::layer_norm_int8, grid, args);
    return one.compare();
  });
}

const Register suite([] {
  for (const Way way : {Way::in_two, Way::in_one}) {
    group_norm(1, 1, 4, 2, 0, way);
    group_norm(2, 300, 20, 5, 0, way);
    group_norm(2, 77, 72, 9, 30, way);
    group_norm(1, 600, 320, 32, 5, way);
    // Groups that have channels of both tensors, with whole chunks of eight in each and without.
    group_norm(2, 77, 72, 3, 30, way, 32);
    group_norm(1, 300, 40, 4, 0, way, 13);
    group_norm(2, 5, 15, 3, 1, way, 5);
  }
  group_norm(1, 700, 24, 3, -20, Way::in_bands);
  modulate(2, 7, 5, false);
  modulate(1, 60, 32, true);
  modulate(2, 7, 29, true, 9);
  for (const int64_t c : {1, 40, 77, 320}) layer_norm(13, c, 0);
  layer_norm(9, 64, 50);
  group_norm_int8(1, 2, 64, 32, true);
  group_norm_int8(2, 77, 320, 32, true);  // 10 channels of a group
  group_norm_int8(2, 51, 192, 3, false);
  group_norm_int8(1, 300, 192, 1, true);
  // The second tensor begins within the channels of a scale, and within a group.
  group_norm_int8(2, 51, 192, 3, true, 72);
  group_norm_int8(1, 77, 320, 32, false, 184);
  for (const int64_t c : {64, 192, 320}) layer_norm_int8(13, c);
});

}  // namespace
}  // namespace nd::cuda_test
