// Attention over head sizes, lengths and masks, against softmax in double.
#include <cmath>

#include "cuda/layers/attention_hopper.h"
#include "support.h"

namespace nd::cuda_test {
namespace {

using namespace nd::cuda;

// Weights of the keys are rounded to halves before they multiply the values.
constexpr double kMost = 1.5e-3;

struct Shape {
  int64_t n = 0, heads = 0, dim = 0, queries = 0, keys = 0;
  bool causal = false;
  double growth = 0;  // of the scores, from one key to the next

  std::string name() const {
    return "cuda/attention " + std::to_string(n) + " of " + std::to_string(heads) + " heads of " +
           std::to_string(dim) + ", " + std::to_string(queries) + " queries, " + std::to_string(keys) +
           " keys" + (causal ? ", causal" : "") +
           (growth != 0 ? ", scores that grow by " + std::to_string(growth).substr(0, 5) : "");
  }
};

std::vector<float> truth(const Shape& s, const std::vector<float>& q, const std::vector<float>& kv) {
  const int64_t inner = s.heads * s.dim;
  std::vector<float> out(static_cast<size_t>(s.n * s.queries * inner));
  for (int64_t image = 0; image < s.n; ++image)
    for (int64_t head = 0; head < s.heads; ++head)
      for (int64_t i = 0; i < s.queries; ++i) {
        const int64_t count = s.causal ? std::min(s.keys, i + 1) : s.keys;
        std::vector<double> weights(static_cast<size_t>(count));
        double maximum = -1e30, total = 0;
        for (int64_t j = 0; j < count; ++j) {
          double score = 0;
          for (int64_t d = 0; d < s.dim; ++d)
            score += static_cast<double>(
                         q[static_cast<size_t>((image * s.queries + i) * inner + head * s.dim + d)]) *
                     kv[static_cast<size_t>((image * s.keys + j) * 2 * inner + head * s.dim + d)];
          weights[static_cast<size_t>(j)] = score / std::sqrt(static_cast<double>(s.dim));
          maximum = std::max(maximum, weights[static_cast<size_t>(j)]);
        }
        for (double& weight : weights) total += weight = std::exp(weight - maximum);
        for (int64_t d = 0; d < s.dim; ++d) {
          double sum = 0;
          for (int64_t j = 0; j < count; ++j)
            sum += weights[static_cast<size_t>(j)] *
                   kv[static_cast<size_t>((image * s.keys + j) * 2 * inner + inner + head * s.dim + d)];
          out[static_cast<size_t>((image * s.queries + i) * inner + head * s.dim + d)] =
              static_cast<float>(sum / total);
        }
      }
  return out;
}

/// One of a head's elements makes the scores of later keys larger.
void grow(const Shape& s, std::vector<float>& q, std::vector<float>& kv) {
  const int64_t inner = s.heads * s.dim;
  const double middle = static_cast<double>(s.keys) / 2;
  for (int64_t i = 0; i < s.n * s.queries * s.heads; ++i) q[static_cast<size_t>(i * s.dim)] = 4;
  for (int64_t i = 0; i < s.n * s.keys; ++i)
    for (int64_t head = 0; head < s.heads; ++head)
      kv[static_cast<size_t>(i * 2 * inner + head * s.dim)] = rounded(static_cast<float>(
          s.growth * (static_cast<double>(i % s.keys) - middle) * std::sqrt(static_cast<double>(s.dim)) / 4));
}

std::vector<float> compute(const Shape& s, Kernel kernel, const std::vector<float>& q,
                           const std::vector<float>& kv) {
  const int64_t inner = s.heads * s.dim;
  const Array dq = Array::halves(q), out(s.n * s.queries * inner * 2);
  std::vector<Array> images;
  AttentionArgs args{};
  for (int64_t i = 0; i < s.n; ++i) {
    const auto first = kv.begin() + i * s.keys * 2 * inner;
    images.push_back(Array::halves(std::vector<float>(first, first + s.keys * 2 * inner)));
    args.keys[i] = images.back().as<half>();
  }
  args.q = dq.as<half>(), args.out = out.as<half>();
  args.q_image = args.out_image = s.queries * inner;
  args.ldq = args.ldo = narrow(inner), args.ldk = narrow(2 * inner), args.v_offset = inner;
  args.q_length = narrow(s.queries), args.k_length = narrow(s.keys), args.head_dim = narrow(s.dim);
  args.slices = kernel == Kernel::attention_wide ? narrow(pieces_of(s.dim, kWideSlice)) : 1;
  args.scale = 1.44269504f / std::sqrt(static_cast<float>(s.dim));
  args.causal = s.causal, args.aligned = s.dim % 8 == 0;
  launch(kernel, {pieces_of(s.queries, attention_queries(kernel)), s.heads, s.n * args.slices}, args);
  return out.read_halves(s.n * s.queries * inner);
}

std::string run(const Shape& s, Kernel kernel) {
  const int64_t inner = s.heads * s.dim;
  std::vector<float> q = random_halves("q", s.n * s.queries * inner, 2),
                     kv = random_halves("kv", s.n * s.keys * 2 * inner, 2);
  if (s.growth != 0) grow(s, q, kv);
  bank_conflicts();
  const std::vector<float> got = compute(s, kernel, q, kv);
  if (const uint64_t count = bank_conflicts()) return std::to_string(count) + " bank conflicts of ldmatrix";
  return within(got, truth(s, q, kv), kMost);
}

/// Queries that are not finite spoil their own results alone, a key or a value those of all queries of its
/// head.
std::string run_not_finite(int64_t dim, Kernel kernel) {
  const Shape s{1, 2, dim, 70, 130};
  const int64_t inner = s.heads * s.dim;
  const std::vector<float> q = random_halves("q", s.queries * inner, 2),
                           kv = random_halves("kv", s.keys * 2 * inner, 2), all = truth(s, q, kv);
  for (const float bad : {std::nanf(""), HUGE_VALF}) {
    std::vector<float> spoiled = q;
    spoiled[static_cast<size_t>(5 * inner + 1)] = spoiled[static_cast<size_t>(66 * inner + dim)] = bad;
    std::vector<float> got = compute(s, kernel, spoiled, kv);
    for (int64_t i = 0; i < s.queries * inner; ++i) {
      float& x = got[static_cast<size_t>(i)];
      const bool first = i % inner < dim, wrong = i / inner == (first ? 5 : 66);
      if (wrong != std::isnan(x))
        return "query " + std::to_string(i / inner) + " with " + std::to_string(bad);
      if (wrong) x = all[static_cast<size_t>(i)];
    }
    if (std::string off = within(got, all, kMost); !off.empty()) return off;
    for (const int64_t row : {0, 100, 129})
      for (const int64_t part : {0, 1}) {
        spoiled = kv;
        spoiled[static_cast<size_t>((row * 2 + part) * inner + dim + 3)] = part ? std::nanf("") : bad;
        got = compute(s, kernel, q, spoiled);
        for (int64_t i = 0; i < s.queries * inner; ++i) {
          const int64_t column = i % inner;
          // An infinite key whose score is −∞ has no weight.
          const bool may = part ? column == dim + 3 : column >= dim, must = may && (part || std::isnan(bad));
          if (may ? must && !std::isnan(got[static_cast<size_t>(i)])
                  : std::isnan(got[static_cast<size_t>(i)]))
            return "key " + std::to_string(row) + " with " + std::to_string(bad);
        }
      }
  }
  return "";
}

/// Self-attention by Hopper's kernels, which take queries, keys and values side by side.
std::string run_hopper(const Shape& s) {
  const int64_t inner = s.heads * s.dim, rows = s.n * s.keys;
  std::vector<float> q = random_halves("q", rows * inner, 2), kv = random_halves("kv", rows * 2 * inner, 2);
  if (s.growth != 0) grow(s, q, kv);
  std::vector<float> qkv;
  for (int64_t i = 0; i < rows; ++i) {
    qkv.insert(qkv.end(), q.begin() + i * inner, q.begin() + (i + 1) * inner);
    qkv.insert(qkv.end(), kv.begin() + i * 2 * inner, kv.begin() + (i + 1) * 2 * inner);
  }
  const Array in = Array::halves(qkv), out(rows * inner * 2);
  const SelfAttentionShape shape{s.n, s.keys, s.heads, s.dim};
  const HopperAttentionArgs args = [&] {
    const Device& device = backend().device();
    const Device::Current current(device);
    return hopper_attention_arguments(device.driver(), in.as<half>(), out.as<half>(), shape);
  }();
  launch(hopper_attention_kernel(s.dim), hopper_attention_grid(shape), args);
  return within(out.read_halves(rows * inner), truth(s, q, kv), kMost);
}

const Register suite([] {
  struct Case {
    Shape shape;
    Kernel kernel = Kernel::attention_40;
  };
  const Case cases[] = {
      {{1, 1, 8, 1, 1}, Kernel::attention_40},
      {{2, 3, 40, 70, 77}, Kernel::attention_40},
      {{2, 2, 40, 130, 200}, Kernel::attention_40},
      {{1, 1, 24, 129, 64}, Kernel::attention_40},
      {{1, 2, 40, 150, 150, true}, Kernel::attention_40},
      {{1, 1, 1, 1, 1}, Kernel::attention_40_unaligned},
      {{1, 2, 5, 33, 65}, Kernel::attention_40_unaligned},
      {{1, 1, 7, 129, 129, true}, Kernel::attention_40_unaligned},
      {{1, 2, 48, 130, 130, true}, Kernel::attention_64},
      {{1, 2, 64, 77, 77, true}, Kernel::attention_64},
      {{2, 1, 64, 100, 200}, Kernel::attention_64},
      {{1, 2, 80, 65, 64}, Kernel::attention_80},
      {{1, 1, 72, 9, 77}, Kernel::attention_80},
      {{1, 1, 80, 150, 150, true}, Kernel::attention_80},
      {{1, 2, 128, 64, 33}, Kernel::attention_128},
      {{1, 1, 160, 70, 77}, Kernel::attention_160},
      {{1, 1, 152, 64, 63, true}, Kernel::attention_160},
      {{1, 1, 512, 70, 130}, Kernel::attention_wide},
      {{2, 2, 200, 33, 65}, Kernel::attention_wide},
      {{1, 1, 161, 65, 70, true}, Kernel::attention_wide},
      {{1, 1, 75, 9, 77}, Kernel::attention_wide},
      {{1, 1, 520, 65, 65}, Kernel::attention_wide},
  };
  const Shape hopper[] = {{1, 1, 8, 1, 1},      {2, 3, 40, 70, 70},    {1, 2, 40, 200, 200},
                          {1, 2, 64, 129, 129}, {2, 2, 72, 65, 65},    {1, 2, 80, 64, 64},
                          {1, 1, 128, 96, 96},  {1, 2, 160, 130, 130}, {1, 1, 136, 33, 33}};
  // A row's shift is raised in some of the steps, nearly as late as its slack allows, in all, in none but the
  // first.
  for (const double growth : {0.03, 0.08, 0.5, -0.5}) {
    const Case growing[] = {{{1, 2, 40, 130, 330, false, growth}, Kernel::attention_40},
                            {{1, 1, 64, 129, 200, true, growth}, Kernel::attention_64},
                            {{1, 1, 160, 64, 130, false, growth}, Kernel::attention_160},
                            {{1, 1, 200, 65, 200, false, growth}, Kernel::attention_wide}};
    for (const Case& one : growing)
      in_all_orders(one.shape.name(), [&] { return run(one.shape, one.kernel); });
    if (!backend().device().has_warpgroup_products()) continue;
    for (const int64_t dim : {40, 80}) {
      const Shape shape{1, 2, dim, 330, 330, false, growth};
      in_all_orders(shape.name() + ", by warpgroups", [&] { return run_hopper(shape); });
    }
  }
  const Case not_finite[] = {{{1, 1, 40, 1, 1}, Kernel::attention_40},
                             {{1, 1, 80, 1, 1}, Kernel::attention_80},
                             {{1, 1, 168, 1, 1}, Kernel::attention_wide}};
  for (const Case& one : not_finite)
    in_all_orders("cuda/attention of NaN and infinity, heads of " + std::to_string(one.shape.dim),
                  [&] { return run_not_finite(one.shape.dim, one.kernel); });
  if (backend().device().has_warpgroup_products())
    for (const Shape& shape : hopper)
      in_all_orders(shape.name() + ", by warpgroups", [&] { return run_hopper(shape); });
  for (const Case& one : cases) in_all_orders(one.shape.name(), [&] { return run(one.shape, one.kernel); });
});

}  // namespace
}  // namespace nd::cuda_test
