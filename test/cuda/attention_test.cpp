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
  int64_t n, heads, dim, queries, keys;
  bool causal = false, cross = false;

  std::string name() const {
    return "cuda/attention " + std::to_string(n) + " of " + std::to_string(heads) + " heads of " +
           std::to_string(dim) + ", " + std::to_string(queries) + " queries, " + std::to_string(keys) +
           " keys" + (causal ? ", causal" : "");
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

std::string run(const Shape& s, Kernel kernel) {
  const int64_t inner = s.heads * s.dim;
  const std::vector<float> q = random_halves("q", s.n * s.queries * inner, 2),
                           kv = random_halves("kv", s.n * s.keys * 2 * inner, 2);
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
  launch(kernel, {pieces_of(s.queries, queries_of(kernel)), s.heads, s.n * args.slices}, args);
  return within(out.read_halves(s.n * s.queries * inner), truth(s, q, kv), kMost);
}

/// Self-attention by Hopper's kernels, which take queries, keys and values side by side.
std::string run_hopper(const Shape& s) {
  const int64_t inner = s.heads * s.dim, rows = s.n * s.keys;
  const std::vector<float> q = random_halves("q", rows * inner, 2),
                           kv = random_halves("kv", rows * 2 * inner, 2);
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
    Kernel kernel;
  };
  const Case cases[] = {
      {{1, 1, 1, 1, 1}, Kernel::attention_48},
      {{2, 3, 40, 70, 77}, Kernel::attention_48},
      {{1, 2, 5, 33, 65}, Kernel::attention_48},
      {{1, 2, 48, 130, 130, true}, Kernel::attention_48},
      {{1, 2, 64, 77, 77, true}, Kernel::attention_64},
      {{2, 1, 64, 100, 200}, Kernel::attention_64},
      {{1, 2, 80, 65, 64}, Kernel::attention_80},
      {{1, 1, 75, 9, 77}, Kernel::attention_80},
      {{2, 2, 40, 130, 77}, Kernel::attention_48_long},
      {{1, 1, 7, 129, 129, true}, Kernel::attention_48_long},
      {{1, 2, 128, 64, 33}, Kernel::attention_128},
      {{1, 1, 160, 70, 77}, Kernel::attention_160},
      {{1, 1, 150, 64, 63, true}, Kernel::attention_160},
      {{1, 1, 512, 70, 130}, Kernel::attention_wide},
      {{2, 2, 200, 33, 65}, Kernel::attention_wide},
      {{1, 1, 161, 65, 70, true}, Kernel::attention_wide},
  };
  const Shape hopper[] = {{1, 1, 8, 1, 1},      {2, 3, 40, 70, 70},    {1, 2, 40, 200, 200},
                          {1, 2, 64, 129, 129}, {2, 2, 72, 65, 65},    {1, 2, 80, 64, 64},
                          {1, 1, 128, 96, 96},  {1, 2, 160, 130, 130}, {1, 1, 136, 33, 33}};
  if (backend().device().has_warpgroup_products())
    for (const Shape& shape : hopper)
      in_all_orders(shape.name() + ", by warpgroups", [&] { return run_hopper(shape); });
  for (const Case& one : cases) in_all_orders(one.shape.name(), [&] { return run(one.shape, one.kernel); });
});

}  // namespace
}  // namespace nd::cuda_test
