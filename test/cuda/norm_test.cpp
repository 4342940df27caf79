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
      one.slice = narrow(slice), one.rows = narrow(rows), one.eps = kEps, one.silu = true;
      launch(Kernel::group_norm, {pieces_of(groups, slice), pieces_of(pixels, rows), n}, one);
    } else {
      launch(Kernel::group_factors, {groups, n}, group);
      launch(
          Kernel::affine, {pieces_of(n * pixels * c, int64_t{8} * kMoveThreads)},
          AffineArgs{inputs, factors.as<float>(), y.as<half>(), pixels * c, n * pixels * c, narrow(c), true});
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
               LayerNormArgs{dx.as<half>(), dg.as<float>(), db.as<float>(), y.as<half>(), narrow(rows),
                             narrow(c), kEps});
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
});

}  // namespace
}  // namespace nd::cuda_test
