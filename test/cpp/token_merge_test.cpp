// Token merging against a plain implementation of the method, and against attention to all tokens where both
// must be the same.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "core/thread_pool.h"
#include "fixture_models.h"
#include "harness.h"
#include "nn/token_merge.h"
#include "nn/workspace.h"
#include "cpu/layers/attention.h"
#include "cpu/layers/token_merge.h"

namespace nd::test {
using namespace nd::cpu;
namespace {

constexpr double kTolerance = 1e-5;

struct Case {
  int64_t n, h, w, c;
  double ratio;
  std::string name() const {
    return std::to_string(n) + "x" + std::to_string(h) + "x" + std::to_string(w) + "x" + std::to_string(c) +
           " ratio " + text(ratio);
  }
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const double ratio : {0.1, 0.5, 0.75}) {
    all.push_back({2, 6, 10, 8, ratio});
    all.push_back({1, 7, 9, 13, ratio});
    all.push_back({3, 2, 3, 5, ratio});
  }
  all.push_back({1, 2, 2, 3, 0.75});
  all.push_back({1, 2, 33, 40, 0.6});
  if (!small()) {
    all.push_back({2, 64, 66, 24, 0.5});  // more destinations than are compared at a time
    all.push_back({1, 67, 65, 9, 0.74});
  }
  return all;
}

/// Bolya & Hoffman 2023 in double precision, for one image: the means of the merged tokens, and the row of
/// each token.
struct Plain {
  std::vector<double> rows;
  std::vector<size_t> row;

  Plain(const float* x, int64_t h, int64_t w, int64_t c, double ratio) {
    const auto count = static_cast<size_t>(h * w), width = static_cast<size_t>(c);
    std::vector<size_t> source, destination;
    for (size_t t = 0; t < count; ++t) {
      const int64_t row = static_cast<int64_t>(t) / w, column = static_cast<int64_t>(t) % w;
      const bool corner = row % 2 == 0 && column % 2 == 0 && row + 1 < h && column + 1 < w;
      (corner ? destination : source).push_back(t);
    }
    const auto dot = [&](size_t a, size_t b) {
      double sum = 0;
      for (size_t j = 0; j < width; ++j) sum += static_cast<double>(x[a * width + j]) * x[b * width + j];
      return sum;
    };
    struct Edge {
      double similarity;
      size_t from, to;
    };
    std::vector<Edge> edges;
    for (const size_t from : source) {
      Edge best{-2, from, 0};
      for (const size_t to : destination) {
        const double cosine = dot(from, to) / std::sqrt(dot(from, from) * dot(to, to));
        if (cosine > best.similarity) best = {cosine, from, to};  // not if the cosine is NaN
      }
      edges.push_back(best);
    }
    std::stable_sort(edges.begin(), edges.end(),
                     [](const Edge& a, const Edge& b) { return a.similarity > b.similarity; });
    edges.resize(std::min(edges.size(), static_cast<size_t>(std::floor(ratio * static_cast<double>(count)))));

    std::vector<size_t> into(count);
    for (size_t t = 0; t < count; ++t) into[t] = t;
    for (const Edge& edge : edges) into[edge.from] = edge.to;
    row.resize(count);
    size_t left = 0;
    for (size_t t = 0; t < count; ++t)
      if (into[t] == t) row[t] = left++;
    for (size_t t = 0; t < count; ++t) row[t] = row[into[t]];
    rows.resize(left * width);
    std::vector<double> members(left);
    for (size_t t = 0; t < count; ++t) {
      ++members[row[t]];
      for (size_t j = 0; j < width; ++j) rows[row[t] * width + j] += x[t * width + j];
    }
    for (size_t i = 0; i < rows.size(); ++i) rows[i] /= members[i / width];
  }
};

/// Runs `work` as a model does: first to plan memory, then to compute.
void run(const Kernels& kernels, const std::function<void(Context&)>& work) {
  Workspace workspace(backend_of(&kernels));
  workspace.run(nullptr, [&](ForwardContext& ctx) { work(Context::of(ctx)); });
}

Tensor feature(Context& ctx, const std::vector<float>& values, int64_t n, int64_t h, int64_t w, int64_t c) {
  Tensor x(ctx, n, h, w, c);
  if (!ctx.measuring()) std::copy(values.begin(), values.end(), data(x));
  return x;
}

std::vector<float> values_of(Context& ctx, const Tensor& x) {
  return ctx.measuring() ? std::vector<float>() : std::vector<float>(data(x), data(x) + x.size());
}

/// NaN is close to NaN, and infinity to infinity.
bool close(double a, double b) {
  return a == b || (std::isnan(a) ? std::isnan(b) : std::abs(a - b) <= kTolerance);
}

std::string against_plain(const Kernels& kernels, const Case& c, const std::vector<float>& values) {
  std::vector<float> means, back;
  run(kernels, [&](Context& ctx) {
    const Tensor x = feature(ctx, values, c.n, c.h, c.w, c.c);
    const cpu::TokenMerge merge(ctx, x, c.ratio);
    const Tensor fewer = merge.merge(ctx, x);
    means = values_of(ctx, fewer);
    merge.unmerge_onto(ctx, fewer, x);
    back = values_of(ctx, x);
  });
  const auto size = static_cast<size_t>(c.h * c.w * c.c), width = static_cast<size_t>(c.c);
  size_t at = 0;
  for (size_t image = 0; image < static_cast<size_t>(c.n); ++image) {
    const float* x = values.data() + image * size;
    const Plain plain(x, c.h, c.w, c.c, c.ratio);
    if (at + plain.rows.size() > means.size()) return std::string("too few tokens");
    for (size_t i = 0; i < plain.rows.size(); ++i)
      if (!close(means[at + i], plain.rows[i])) return "mean " + std::to_string(i) + " differs";
    for (size_t i = 0; i < size; ++i) {
      const double expected = x[i] + plain.rows[plain.row[i / width] * width + i % width];
      if (!close(back[image * size + i], expected))
        return "token " + std::to_string(i / width) + " receives another row";
    }
    at += plain.rows.size();
  }
  return at == means.size() ? "" : "too many tokens";
}

/// If all tokens of a window are the same, merging changes nothing: each key represents four.
std::string lossless(const Kernels& kernels) {
  constexpr int64_t n = 2, h = 8, w = 12, c = 16;
  const std::vector<float> corners = noise("windows", n * h * w * c);
  std::vector<float> values(corners.size());
  for (int64_t i = 0; i < n * h * w; ++i) {
    const int64_t column = i % w / 2 * 2, row = i / w / 2 * 2;
    std::copy_n(corners.data() + (row * w + column) * c, c, values.data() + i * c);
  }
  std::vector<std::vector<float>> weights;
  WeightTable table;
  const std::string path = temporary_path("merge").u8string();
  std::FILE* file = std::fopen(path.c_str(), "wb");
  const std::vector<float> stored = noise("weights", 4 * c * c + c);
  std::fwrite(stored.data(), 4, stored.size(), file);
  std::fclose(file);
  const int index = table.add_file(path);
  const char* names[] = {"a.to_q.weight", "a.to_k.weight", "a.to_v.weight", "a.to_out.0.weight"};
  for (int i = 0; i < 4; ++i)
    table.add(names[i], TensorType::f32, {c, c}, false, index, static_cast<uint64_t>(i * c * c * 4),
              c * c * 4);
  table.add("a.to_out.0.bias", TensorType::f32, {c}, false, index, 4 * c * c * 4, c * 4);
  Loader loader(table, backend_of(&kernels));
  AttentionOptions options;
  options.width = c;
  options.heads = 2;
  options.head_dim = c / 2;
  const auto attention = loader.attention("a", options);
  std::remove(path.c_str());

  std::vector<float> all, fewer;
  run(kernels, [&](Context& ctx) {
    const Tensor x = feature(ctx, values, n, h, w, c);
    all = values_of(ctx, attention->forward(ctx, x, &x));
  });
  run(kernels, [&](Context& ctx) {
    const Tensor x = feature(ctx, values, n, h, w, c);
    const cpu::TokenMerge merge(ctx, x, 0.75);
    merge.unmerge_onto(ctx, attention->forward(ctx, merge.merge(ctx, x), nullptr), x);
    fewer = values_of(ctx, x);
  });
  for (size_t i = 0; i < all.size(); ++i)
    if (!(std::abs(all[i] - fewer[i]) <= kTolerance)) return "element " + std::to_string(i) + " differs";
  return all.empty() ? "empty" : "";
}

/// Random tokens, of which one of `each` has `value` in all features.
std::vector<float> tokens_with(const Case& c, float value, int64_t each) {
  std::vector<float> values = noise("tokens " + c.name(), c.n * c.h * c.w * c.c);
  for (int64_t token = 0; token < c.n * c.h * c.w; ++token)
    if (token * 2654435761 % 1009 % each == 0) std::fill_n(values.begin() + token * c.c, c.c, value);
  return values;
}

/// Tokens whose length has no finite inverse in float32 are merged as tokens of zeros are.
std::string subnormal_as_zeros(const Kernels& kernels, const Case& c) {
  std::vector<float> merged[2];
  for (const int which : {0, 1}) {
    const std::vector<float> values = tokens_with(c, which ? 1e-42f : 0.0f, 5);
    run(kernels, [&](Context& ctx) {
      const Tensor x = feature(ctx, values, c.n, c.h, c.w, c.c);
      const cpu::TokenMerge merge(ctx, x, c.ratio);
      merged[which] = values_of(ctx, merge.merge(ctx, x));
    });
  }
  for (size_t i = 0; i < merged[0].size(); ++i)
    if (!close(merged[0][i], merged[1][i])) return "mean " + std::to_string(i) + " differs";
  return "";
}

const Register suite([] {
  int count = 0;
  const Kernels* const* tables = available_kernels(&count);
  for (int t = 0; t < count; ++t) {
    const std::string prefix = std::string("token-merge/ ") + tables[t]->name + " ";
    for (const Case& c : cases()) {
      const std::string name = prefix + c.name();
      if (wanted(name))
        report(name, against_plain(*tables[t], c, noise("tokens " + c.name(), c.n * c.h * c.w * c.c)));
    }
    const Case some{2, 24, 20, 8, 0.3};
    for (const float value : {std::nanf(""), std::numeric_limits<float>::infinity()})
      for (const int64_t each : {2, 7}) {
        const std::string name = prefix + text(value) + " in one of " + std::to_string(each) + " tokens";
        if (wanted(name)) report(name, against_plain(*tables[t], some, tokens_with(some, value, each)));
      }
    if (wanted(prefix + "subnormal tokens"))
      report(prefix + "subnormal tokens", subnormal_as_zeros(*tables[t], some));
    if (wanted(prefix + "lossless")) report(prefix + "lossless", lossless(*tables[t]));
  }
  const std::string none = "token-merge/ counts";
  if (wanted(none)) {
    const bool right = merged_tokens(1, 100, 0.75) == 0 && merged_tokens(64, 64, 0.5) == 2048 &&
                       merged_tokens(64, 64, 0) == 0 && merged_tokens(2, 3, 0.75) == 4 &&
                       merged_tokens(5, 5, 0.999) == 21 && merged_tokens(int64_t{1} << 24, 2, 0.5) == 1 << 24;
    report(none, right ? "" : "wrong");
  }
});

}  // namespace
}  // namespace nd::test
