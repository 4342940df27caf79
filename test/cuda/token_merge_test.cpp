// Token merging on the device against the CPU's: the same tokens are merged into the same ones, means and
// sums are equal up to the rounding of half precision.
#include <algorithm>
#include <cmath>
#include <limits>

#include "fixture_models.h"
#include "nn/workspace.h"
#include "support.h"

namespace nd::cuda_test {
namespace {

constexpr double kHalf = 0x1p-11;  // rounding of a half

struct Case {
  int64_t n, h, w, c;
  double ratio;
  std::string name() const {
    return std::to_string(n) + "x" + std::to_string(h) + "x" + std::to_string(w) + "x" + std::to_string(c) +
           " ratio " + text(ratio);
  }
  int64_t size() const { return n * h * w * c; }
};

struct Merged {
  std::vector<float> means, back;
};

/// Runs it as a model does: first to plan memory, then to compute.
Merged merged(Backend& backend, const Case& c, const std::vector<float>& values) {
  Merged result;
  Workspace(backend).run(nullptr, [&](ForwardContext& ctx) {
    const Tensor x(ctx, c.n, c.h, c.w, c.c);
    if (!ctx.measuring()) backend.put(ctx, values.data(), x, 0, x.rows());
    const std::unique_ptr<TokenMerge> merge = backend.merge_tokens(ctx, x, c.ratio);
    const Tensor fewer = merge->merge(ctx, x);
    result.means.resize(static_cast<size_t>(fewer.size()));
    result.back.resize(values.size());
    if (!ctx.measuring()) backend.get(ctx, fewer, result.means.data());
    merge->unmerge_onto(ctx, fewer, x);
    if (!ctx.measuring()) backend.get(ctx, x, result.back.data());
  });
  return result;
}

/// Halves keep neither infinities nor NaN, for which anything is right here, nor what is above their range.
bool close(double got, double expected, double scale) {
  const double most = std::clamp(expected, -65504.0, 65504.0);
  return !std::isfinite(expected) || std::abs(got - most) <= kHalf * (std::abs(most) + scale);
}

std::string against_cpu(const Case& c, const std::vector<float>& values) {
  const Merged got = merged(backend(), c, values), expected = merged(backend_of(), c, values);
  if (got.means.size() != expected.means.size()) return "another number of tokens";
  for (size_t i = 0; i < got.means.size(); ++i)
    if (!close(got.means[i], expected.means[i], 0)) return "mean " + std::to_string(i) + " differs";
  for (size_t i = 0; i < values.size(); ++i)
    if (!close(got.back[i], expected.back[i], std::abs(expected.back[i] - values[i])))
      return "token " + std::to_string(i / static_cast<size_t>(c.c)) + " receives another row";
  return "";
}

/// Random tokens, of which one of `each` has `value` in all features.
std::vector<float> tokens_with(const Case& c, float value, int64_t each) {
  std::vector<float> values = random_halves("tokens " + c.name(), c.size());
  for (int64_t token = 0; token < c.n * c.h * c.w; ++token)
    if (token * 2654435761 % 1009 % each == 0) std::fill_n(values.begin() + token * c.c, c.c, value);
  return values;
}

/// Cosines are exactly 0 or 1, so that most choices are between equals.
std::vector<float> one_hot(const Case& c) {
  Random random("one hot " + c.name());
  std::vector<float> values(static_cast<size_t>(c.size()), 0.0f);
  for (int64_t token = 0; token < c.n * c.h * c.w; ++token)
    values[static_cast<size_t>(token * c.c +
                               static_cast<int64_t>(random.next() % static_cast<uint64_t>(c.c)))] =
        random.next() % 2 ? 1.0f : 4.0f;
  return values;
}

const Register suite([] {
  std::vector<Case> cases;
  for (const double ratio : {0.1, 0.5, 0.75}) {
    cases.push_back({2, 6, 10, 8, ratio});
    cases.push_back({1, 7, 9, 13, ratio});
    cases.push_back({3, 3, 4, 5, ratio});
  }
  cases.push_back({1, 2, 2, 3, 0.75});
  cases.push_back({1, 2, 33, 40, 0.6});
  cases.push_back({1, 18, 21, 72, 0.5});  // several tiles of destinations, pieces of channels
  cases.push_back({1, 3, 4, 264, 0.4});   // more channels than a warp has
  cases.push_back({1, 31, 33, 16, 0.3});  // several tokens of each thread
  for (const Case& one : cases)
    in_all_orders("cuda/merge " + one.name(),
                  [&] { return against_cpu(one, random_halves("tokens " + one.name(), one.size())); });
  for (const Case& one : {Case{2, 9, 12, 3, 0.5}, {1, 16, 18, 8, 0.7}}) {
    in_all_orders("cuda/merge equals, " + one.name(), [&] { return against_cpu(one, one_hot(one)); });
    in_all_orders("cuda/merge nothing but equals, " + one.name(), [&] {
      return against_cpu(one, std::vector<float>(static_cast<size_t>(one.size()), -0.25f));
    });
    const float infinity = std::numeric_limits<float>::infinity();
    for (const float value : {0.0f, std::nanf(""), infinity, -infinity, 65504.0f, 0x1p-24f})
      for (const int64_t each : {3, 1})
        in_all_orders(
            "cuda/merge tokens of " + text(value) + ", one in " + std::to_string(each) + ", " + one.name(),
            [&] { return against_cpu(one, tokens_with(one, value, each)); });
  }
  in_all_orders("cuda/merge none", [] {
    std::string why;
    Workspace(backend()).run(nullptr, [&](ForwardContext& ctx) {
      for (const Case& one : {Case{1, 1, 64, 8, 0.75}, {1, 8, 8, 8, 0.01}}) {
        const Tensor x(ctx, one.n, one.h, one.w, one.c);
        if (backend().merge_tokens(ctx, x, one.ratio)) why = one.name() + " has something to merge";
      }
    });
    return why;
  });
});

}  // namespace
}  // namespace nd::cuda_test
