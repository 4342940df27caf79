// Attention of every table against the scalar reference.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cases.h"
#include "harness.h"
#include "tables.h"
#include "cpu/kernels/reduced_gemm.h"

namespace nd::test {
using namespace nd::cpu;
namespace {

constexpr double kEps = 0x1p-23;

/// Every attention that this CPU can run; the last one is the reference.
struct Variant {
  std::string name;
  AttentionKernel kernel;
  bool narrow;  // its products multiply bfloat16
};

std::vector<Variant> variants() {
  std::vector<Variant> all;
  for (const Kernels* table : float_tables()) {
    const Kernels& k = *table;
    if (k.bf16_attention) all.push_back({k.name + std::string("-bf16"), *k.bf16_attention, true});
    all.push_back({k.name, k.attention, false});
  }
  return all;
}

struct Case {
  int64_t q_len, k_len, head_dim, batch, heads;
  float size;  // of the scores, about
  bool causal;

  std::string name() const {
    return "q=" + std::to_string(q_len) + " k=" + std::to_string(k_len) + " d=" + std::to_string(head_dim) +
           " batch=" + std::to_string(batch) + " heads=" + std::to_string(heads) + " size=" + text(size) +
           " causal=" + std::to_string(causal);
  }
};

/// Rows have gaps of canaries; q, k, v and out differ in their row length.
struct Problem {
  Case c;
  int64_t ldq, ldk, ldv, ldo;
  Floats q, k, v;

  explicit Problem(const Case& case_)
      : c(case_),
        ldq(c.heads * c.head_dim + 3),
        ldk(c.heads * c.head_dim + 1),
        ldv(c.heads * c.head_dim + 2),
        ldo(c.heads * c.head_dim + 5),
        q(c.batch * c.q_len * ldq),
        k(c.batch * c.k_len * ldk, 1),
        v(c.batch * c.k_len * ldv) {
    Random random(c.name());
    fill(q, ldq, random);
    fill(k, ldk, random);
    fill(v, ldv, random);
  }

  void fill(Floats& x, int64_t ld, Random& random) const {
    for (int64_t i = 0; i < x.size(); ++i)
      if (i % ld < c.heads * c.head_dim) x[i] = random.uniform();
  }

  AttentionArgs args(float* out) {
    AttentionArgs a;
    a.q = q.get();
    a.k = k.get();
    a.v = v.get();
    a.out = out;
    a.ldq = ldq;
    a.ldk = ldk;
    a.ldv = ldv;
    a.ldo = ldo;
    a.batch = c.batch;
    a.heads = c.heads;
    a.head_dim = c.head_dim;
    a.q_len = c.q_len;
    a.k_len = c.k_len;
    a.scale = c.size * 3 / std::sqrt(static_cast<float>(c.head_dim));  // uniform values have variance 1/3
    a.causal = c.causal;
    return a;
  }

  Floats run(const AttentionKernel& kernel, int64_t cut, std::string& why) {
    Floats out(c.batch * c.q_len * ldo, 1);
    const AttentionArgs a = args(out.get());
    Floats packed(kernel.packed_floats(a)), scratch(kernel.scratch_floats(a));
    for (int64_t b = 0; b < c.batch; ++b)
      for (int64_t h = 0; h < c.heads; ++h) {
        kernel.pack(a, b, h, packed.get());
        for (int64_t q0 = 0, q1; q0 < c.q_len; q0 = q1) {
          q1 = cut ? std::min(c.q_len, q0 + cut) : c.q_len;
          kernel.run(a, b, h, q0, q1, packed.get(), scratch.get());
        }
      }
    if (why.empty()) why = packed.guards();
    if (why.empty()) why = scratch.guards();
    if (why.empty()) why = out.guards();
    for (int64_t i = 0; i < out.size() && why.empty(); ++i)
      if (i % ldo >= c.heads * c.head_dim && !out.untouched(i)) why = "wrote between the rows of out";
    return out;
  }

  /// An error δ of the scores changes each weight by a factor e^±2δ; |v| ≤ 1 then bounds the output's error.
  double tolerance(bool narrow) const {
    if (narrow) return 0x1p-7 * (1 + 1.5 * c.size);
    const double d = static_cast<double>(c.head_dim);
    const double score = kEps * (8 + std::sqrt(d)) * c.size * 3 * std::sqrt(d) / 3;  // |q|·|k| ≈ d/3
    return 2.5 * score + kEps * (8 + std::sqrt(static_cast<double>(c.k_len)));
  }
};

std::string compare(const Problem& p, const Floats& got, const Floats& truth, bool narrow) {
  const double tol = p.tolerance(narrow);
  double squares = 0;
  int64_t count = 0;
  for (int64_t i = 0; i < truth.size(); ++i) {
    if (i % p.ldo >= p.c.heads * p.c.head_dim) continue;
    const double error = std::fabs(static_cast<double>(got[i]) - truth[i]);
    if (!(error <= tol))
      return "row " + std::to_string(i / p.ldo) + " column " + std::to_string(i % p.ldo) + ": " +
             text(got[i]) + ", expected " + text(truth[i]) + " within " + text(tol);
    squares += error * error;
    ++count;
  }
  const double rms = std::sqrt(squares / static_cast<double>(count));
  if (narrow && !(rms <= 0x1p-8 * std::max(1.0f, p.c.size))) return "root mean square error " + text(rms);
  return "";
}

void check(const Case& c) {
  static const std::vector<Variant> all = variants();
  for (const Variant& variant : all) {
    const std::string name = "attention/" + variant.name + " " + c.name();
    if (!wanted(name)) continue;
    Problem problem(c);
    std::string why;
    const Floats whole = problem.run(variant.kernel, 0, why);
    if (&variant != &all.back()) {
      const Floats truth = problem.run(all.back().kernel, 0, why);
      if (why.empty()) why = compare(problem, whole, truth, variant.narrow);
    }
    for (int64_t cut : {1, 7, 50}) {
      if (!why.empty() || cut >= c.q_len || (cut == 1 && c.q_len > 100)) continue;
      const Floats pieces = problem.run(variant.kernel, cut, why);
      for (int64_t i = 0; i < whole.size() && why.empty(); ++i)
        if (!same_bits(whole[i], pieces[i]))
          why = "cut into " + std::to_string(cut) + " queries, element " + std::to_string(i) + ": " +
                text(whole[i]) + " or " + text(pieces[i]);
    }
    report(name, why);
  }
}

void sizes() {
  constexpr int64_t lengths[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12,
                                 13, 14, 15, 16, 17, 31, 33, 63, 65, 77, 130};
  constexpr int64_t dims[] = {1, 2, 3, 5, 6, 7, 8, 13, 16, 17, 40, 64, 80, 160};
  Random random("attention sizes");
  int index = 0;
  for (int64_t q_len : lengths)
    for (int64_t k_len : lengths) {
      Case c = {q_len, k_len, dims[random.below(14)], 1 + random.below(2), 1 + random.below(3), 1.0f, false};
      if (random.below(3) == 0) c.k_len = 241 + random.below(260);  // several key blocks
      if (random.below(4) == 0) c.size = 30;                        // one key takes nearly all
      c.causal = random.below(2) == 0;
      if (c.causal) c.k_len = c.q_len;
      if (index++ % (small() ? 29 : 1) == 0) check(c);
    }
  // Causal across several key blocks, where blocks end inside a query block.
  check({small() ? 250 : 520, small() ? 250 : 520, 16, 1, 1, 2.0f, true});
  // Scores far beyond what exp could take without the maximum.
  check({33, 300, 40, 1, 1, 1000.0f, false});
}

void layers() {
  for (const cases::Attention& layer : cases::kAttentions) {
    const int64_t q_len = std::min<int64_t>(layer.q_len, small() ? 10 : layer.causal ? 77 : 70);
    const int64_t k_len = layer.causal ? q_len : std::min<int64_t>(layer.k_len, small() ? 130 : 700);
    check({q_len, k_len, layer.head_dim, 1, 2, 1.0f, layer.causal});
  }
}

/// NaN in a query spoils that query's head only; in a value, that channel of every query that sees it.
void not_a_number() {
  for (const Variant& variant : variants())
    for (int where = 0; where < 3; ++where) {
      const Case c = {20, 30, 9, 1, 2, 1.0f, false};
      const std::string name = "attention nan/" + variant.name + " in=" + "qkv"[where];
      if (!wanted(name)) continue;
      Problem problem(c);
      const float nan = std::numeric_limits<float>::quiet_NaN();
      if (where == 0) problem.q[7 * problem.ldq + 4] = nan;
      if (where == 1) problem.k[7 * problem.ldk + 4] = nan;
      if (where == 2) problem.v[7 * problem.ldv + 4] = nan;
      std::string why;
      const Floats out = problem.run(variant.kernel, 0, why);
      for (int64_t i = 0; i < c.q_len && why.empty(); ++i)
        for (int64_t j = 0; j < c.heads * c.head_dim && why.empty(); ++j) {
          const bool expected = j < c.head_dim && (where == 0 ? i == 7 : where == 1 || j == 4);
          if (std::isnan(out[i * problem.ldo + j]) != expected)
            why = "row " + std::to_string(i) + " column " + std::to_string(j) + ": " +
                  text(out[i * problem.ldo + j]);
        }
      report(name, why);
    }
}

const Register suite([] {
  sizes();
  layers();
  not_a_number();
});

}  // namespace
}  // namespace nd::test
