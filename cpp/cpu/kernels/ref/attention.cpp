// Attention, one query at a time. Each score is computed twice, so that no row of scores is stored.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/kernels/ref/ref.h"

namespace nd::cpu::ref {

// Keys, then values, both [k_len][head_dim].
int64_t attention_packed_floats(const AttentionArgs& args) {
  return 2 * args.k_len * args.head_dim;
}

void attention_pack(const AttentionArgs& args, int64_t batch, int64_t head, float* packed) {
  const int64_t d = args.head_dim;
  for (int64_t t = 0; t < args.k_len; ++t) {
    const int64_t row = batch * args.k_len + t;
    std::memcpy(packed + t * d, args.k + row * args.ldk + head * d, d * sizeof(float));
    std::memcpy(packed + (args.k_len + t) * d, args.v + row * args.ldv + head * d, d * sizeof(float));
  }
}

// One double per output.
int64_t attention_scratch_floats(const AttentionArgs& args) {
  return 2 * args.head_dim;
}

void attention(const AttentionArgs& args, int64_t batch, int64_t head, int64_t q0, int64_t q1,
               const float* packed, float* scratch) {
  const int64_t d = args.head_dim;
  const float* values = packed + args.k_len * d;
  double* sums = reinterpret_cast<double*>(scratch);
  for (int64_t t = q0; t < q1; ++t) {
    const int64_t row = batch * args.q_len + t;
    const float* query = args.q + row * args.ldq + head * d;
    const int64_t keys = args.causal ? std::min(t + 1, args.k_len) : args.k_len;
    auto score = [&](int64_t key) {
      double sum = 0;
      for (int64_t j = 0; j < d; ++j) sum += static_cast<double>(query[j]) * packed[key * d + j];
      return sum * args.scale;
    };
    double highest = score(0);
    for (int64_t key = 1; key < keys; ++key) highest = std::max(highest, score(key));
    double total = 0;
    std::fill(sums, sums + d, 0.0);
    for (int64_t key = 0; key < keys; ++key) {
      const double weight = std::exp(score(key) - highest);
      total += weight;
      for (int64_t j = 0; j < d; ++j) sums[j] += weight * values[key * d + j];
    }
    float* out = args.out + row * args.ldo + head * d;
    for (int64_t j = 0; j < d; ++j) out[j] = static_cast<float>(sums[j] / total);
  }
}

}  // namespace nd::cpu::ref
