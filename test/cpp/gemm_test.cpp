// Matrix products of every table against the scalar reference.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cases.h"
#include "harness.h"
#include "tables.h"
#include "cpu/kernels/kernels.h"

namespace nd::test {
using namespace nd::cpu;
namespace {

constexpr double kEps = 0x1p-23;
constexpr int64_t kSizes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 31, 33, 63, 65};
const char* const kActivationNames[] = {"none", "silu", "gelu", "quick_gelu", "geglu", "relu"};

// Parts of a case that are on or off.
enum : int {
  kBias = 1,
  kImageBias = 2,
  kResidual = 4,
  kInPlace = 8,
  kScale = 16,
  kOffsets = 32,
  kWhole = 64
};

struct Case {
  int64_t m, n, k, runs;
  Activation activation;
  int flags;

  std::string name() const {
    return "m=" + std::to_string(m) + " n=" + std::to_string(n) + " k=" + std::to_string(k) +
           " runs=" + std::to_string(runs) + " act=" + kActivationNames[static_cast<int>(activation)] +
           " flags=" + std::to_string(flags);
  }
  bool geglu() const { return activation == Activation::geglu; }
  int64_t outputs() const { return geglu() ? n / 2 : n; }
};

/// A case's data, the same for every table. Rows of A, C and the residual have gaps of canaries between them.
struct Problem {
  Case c;
  std::vector<KRun> runs;
  std::vector<int64_t> a_offset, c_offset, residual_offset;
  int64_t lda, ldc;
  Floats a, weights, bias, image_bias, residual;

  explicit Problem(const Case& case_)
      : c(case_),
        lda(case_.k + 5 * case_.runs + 3),
        ldc(case_.outputs() + 7),
        a(case_.m * lda),
        weights(case_.n * case_.k),
        bias(case_.n),
        image_bias(((case_.m + 2) / 3) * (case_.n + 1)),
        residual(case_.m * ldc, 3) {
    Random random(c.name());
    auto value = [&] { return c.flags & kWhole ? random.whole() : random.uniform(); };
    // The runs share k unevenly and lie in memory in another order than in k.
    int64_t left = c.k;
    for (int64_t r = 0; r < c.runs; ++r) {
      const int64_t length = r == c.runs - 1 ? left : std::min(left, c.k / c.runs + r % 2);
      runs.push_back({0, length});
      left -= length;
    }
    int64_t at = 2;
    for (int64_t r = c.runs - 1; r >= 0; --r) {
      runs[r].offset = at;
      at += runs[r].length + 5;
    }
    for (int64_t i = 0; i < c.m; ++i) {
      a_offset.push_back((c.flags & kOffsets ? c.m - 1 - i : i) * lda);
      c_offset.push_back((c.flags & kOffsets ? (i + 1) % c.m : i) * ldc);
      residual_offset.push_back((c.flags & kOffsets ? c.m - 1 - i : i) * ldc);
      for (const KRun& run : runs)
        for (int64_t k = 0; k < run.length; ++k) a[a_offset[i] + run.offset + k] = value();
    }
    for (int64_t i = 0; i < weights.size(); ++i) weights[i] = value();
    for (int64_t i = 0; i < bias.size(); ++i) bias[i] = value();
    for (int64_t i = 0; i < image_bias.size(); ++i) image_bias[i] = value();
    for (int64_t i = 0; i < c.m; ++i)
      for (int64_t j = 0; j < c.outputs(); ++j) residual[i * ldc + j] = value();
  }

  /// Which weight row lies in slot `slot` of panel `panel`.
  int64_t source(int64_t nr, int64_t panel, int64_t slot) const {
    if (!c.geglu()) return panel * nr + slot;
    const int64_t half = std::min(nr, c.n - panel * nr) / 2;
    return slot < half ? panel * nr / 2 + slot : c.n / 2 + panel * nr / 2 + slot - half;
  }

  /// Runs a table; rows and panels cut where told (cut = 0: in one piece).
  Floats run(const Kernels& table, int64_t row_cut, bool each_panel, std::string& why) const {
    const int64_t nr = table.nr, panels = (c.n + nr - 1) / nr;
    Floats packed(panels * nr * c.k), panel_bias(c.n), out(c.m * ldc, 1);
    for (int64_t p = 0; p < panels; ++p) {
      std::vector<const float*> rows;
      for (int64_t s = 0; s < std::min(nr, c.n - p * nr); ++s) {
        rows.push_back(const_cast<Floats&>(weights).get() + source(nr, p, s) * c.k);
        panel_bias[p * nr + s] = bias[source(nr, p, s)];
      }
      table.pack_panel(rows.data(), static_cast<int64_t>(rows.size()), c.k, packed.get() + p * nr * c.k);
    }
    Problem& self = const_cast<Problem&>(*this);
    GemmArgs args;
    args.m = c.m;
    args.n = c.n;
    args.k = c.k;
    args.lhs = {self.a.get(), c.flags & kOffsets ? a_offset.data() : nullptr, lda, runs.data(), c.runs};
    args.rhs.panels = packed.get();
    GemmEpilogue& epilogue = args.epilogue;
    epilogue.c = out.get();
    epilogue.c_offset = c.flags & kOffsets ? c_offset.data() : nullptr;
    epilogue.ldc = ldc;
    if (c.flags & kBias) epilogue.bias = panel_bias.get();
    if (c.flags & kImageBias) epilogue.image_bias = self.image_bias.get();
    epilogue.image_bias_stride = c.n + 1;
    epilogue.rows_per_image = 3;
    epilogue.residual_offset = c.flags & kOffsets ? residual_offset.data() : nullptr;
    epilogue.ldr = ldc;
    if (c.flags & kInPlace) {
      epilogue.residual = out.get();
      epilogue.residual_offset = epilogue.c_offset;
      for (int64_t i = 0; i < c.m; ++i)
        for (int64_t j = 0; j < c.outputs(); ++j) out[i * ldc + j] = residual[i * ldc + j];
    } else if (c.flags & kResidual) {
      epilogue.residual = self.residual.get();
    }
    epilogue.activation = c.activation;
    if (c.flags & kScale) epilogue.scale = c.flags & kWhole ? -2.0f : 0.7071f;
    for (int64_t m0 = 0, m1; m0 < c.m; m0 = m1) {
      m1 = row_cut ? std::min(c.m, m0 + row_cut) : c.m;
      if (!each_panel)
        table.gemm(args, m0, m1, 0, panels);
      else
        for (int64_t p = panels - 1; p >= 0; --p) table.gemm(args, m0, m1, p, p + 1);
    }
    if (why.empty()) why = packed.guards();
    if (why.empty()) why = out.guards();
    for (int64_t i = 0; i < c.m && why.empty(); ++i)
      for (int64_t j = c.outputs(); j < ldc; ++j)
        if (!out.untouched(i * ldc + j)) why = "wrote beyond the columns of row " + std::to_string(i);
    return out;
  }

  double row_norm(int64_t i) const {
    double sum = 0;
    for (const KRun& run : runs)
      for (int64_t k = 0; k < run.length; ++k) sum += std::pow(a[a_offset[i] + run.offset + k], 2.0);
    return std::sqrt(sum);
  }
  double weight_norm(int64_t j) const {
    double sum = 0;
    for (int64_t k = 0; k < c.k; ++k) sum += std::pow(weights[j * c.k + k], 2.0);
    return std::sqrt(sum);
  }
};

/// Bound on the error of one output, from |a|·|b| (Cauchy–Schwarz): rounding errors of K terms grow like √K.
double tolerance(const Case& c, double a_norm, double value_norm, double gate_norm) {
  if (c.flags & kWhole) return 0;
  auto largest = [&](double norm) { return a_norm * norm + 2; };  // with both biases
  auto error = [&](double norm) {
    return kEps * ((8 + std::sqrt(static_cast<double>(c.k))) * a_norm * norm + 8);
  };
  auto activated = [&](double norm) { return 1.2 * error(norm) + 4e-7 * largest(norm); };
  double total = error(value_norm);
  if (c.geglu())
    total = largest(value_norm) * activated(gate_norm) + largest(gate_norm) * total;
  else if (c.activation != Activation::none)
    total = activated(value_norm);
  const double biggest = largest(value_norm) * (c.geglu() ? largest(gate_norm) : 1);
  return total + kEps * (biggest + 2);
}

std::string compare(const Problem& p, const Floats& got, const Floats& truth) {
  std::vector<double> weight_norms;
  for (int64_t j = 0; j < p.c.n; ++j) weight_norms.push_back(p.weight_norm(j));
  for (int64_t i = 0; i < p.c.m; ++i) {
    const double a_norm = p.row_norm(i);
    const int64_t row = p.c.flags & kOffsets ? p.c_offset[i] : i * p.ldc;
    for (int64_t j = 0; j < p.c.outputs(); ++j) {
      const double tol =
          tolerance(p.c, a_norm, weight_norms[j], p.c.geglu() ? weight_norms[p.c.n / 2 + j] : 0);
      const double error = std::fabs(static_cast<double>(got[row + j]) - truth[row + j]);
      if (!(error <= tol))
        return "row " + std::to_string(i) + " column " + std::to_string(j) + ": " + text(got[row + j]) +
               ", expected " + text(truth[row + j]) + " within " + text(tol);
    }
  }
  return "";
}

std::string different(const Floats& a, const Floats& b) {
  for (int64_t i = 0; i < a.size(); ++i)
    if (!same_bits(a[i], b[i]))
      return "element " + std::to_string(i) + ": " + text(a[i]) + " or " + text(b[i]);
  return "";
}

void check(const Case& c) {
  const std::vector<const Kernels*> tables = float_tables();
  std::vector<std::string> names;
  bool any = false;
  for (const Kernels* table : tables) {
    names.push_back("gemm/" + std::string(table->name) + " " + c.name());
    any = any || wanted(names.back());
  }
  if (!any) return;
  const Problem problem(c);
  std::string why;
  const Floats truth = problem.run(*tables.back(), 0, false, why);
  if (wanted(names.back())) report(names.back(), why);
  for (size_t i = 0; i + 1 < tables.size(); ++i) {
    if (!wanted(names[i])) continue;
    why.clear();
    const Floats whole = problem.run(*tables[i], 0, false, why);
    if (why.empty()) why = compare(problem, whole, truth);
    for (int64_t cut : {1, 5, 8}) {
      if (!why.empty() || cut >= c.m) break;
      const Floats cut_up = problem.run(*tables[i], cut, cut != 5, why);
      if (why.empty()) why = different(whole, cut_up);
      if (!why.empty()) why = "cut into rows of " + std::to_string(cut) + ": " + why;
    }
    report(names[i], why);
  }
}

void sizes() {
  Random random("sizes");
  int index = 0;
  const int step = small() ? 23 : 1;
  for (int64_t m : kSizes)
    for (int64_t n : kSizes)
      for (int whole = 0; whole < 2; ++whole) {
        Case c{};
        c.m = m;
        c.n = n;
        c.k = kSizes[random.below(21)];
        c.runs = std::min<int64_t>(c.k, 1 + random.below(4));
        c.flags = static_cast<int>(random.below(64)) & (random.below(3) ? -1 : 0);
        c.activation = static_cast<Activation>(random.below(6));
        if (whole) {
          c.flags |= kWhole;
          c.activation = Activation::none;
        }
        if (c.activation == Activation::geglu) {
          c.n *= 2;
          c.flags &= ~kImageBias;
        }
        if (index++ % step == 0) check(c);
      }
}

/// Every combination of the epilogue's parts on one awkward shape: a full panel and a narrow one, a tail of
/// rows.
void epilogues() {
  for (int activation = 0; activation < 6; ++activation)
    for (int flags = 0; flags < 64; flags += small() ? 7 : 1) {
      const bool geglu = activation == 4;
      if (geglu && flags & kImageBias) continue;
      check({13, geglu ? 150 : 75, 19, 2, static_cast<Activation>(activation), flags});
    }
}

/// Real layers with fewer rows and columns, so that k (and its blocks) keeps its true length.
void layers() {
  for (const cases::Gemm& layer : cases::kGemms) {
    const int64_t m = std::min<int64_t>(layer.m, small() ? 7 : 29),
                  n = std::min<int64_t>(layer.n, small() ? 66 : 134);
    const int flags = layer.activation == Activation::geglu ? kBias : kBias | kResidual;
    check({m, n, layer.k, layer.runs, layer.activation, flags});
    check({m, n, layer.k, layer.runs, Activation::none, flags | kWhole});
  }
  // More rows than a row block, several K blocks.
  check({small() ? 200 : 415, 70, 1100, 3, Activation::silu, kBias | kOffsets});
  check({small() ? 200 : 415, 70, 1100, 3, Activation::none, kBias | kOffsets | kWhole});
}

void not_a_number() {
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()};
  for (const Kernels* table : float_tables())
    for (int activation = 0; activation < 6; ++activation)
      for (float value : bad) {
        const Case c = {8, 70, 9, 1, static_cast<Activation>(activation), 0};
        const std::string name =
            "gemm nan/" + std::string(table->name) + " " + c.name() + " value=" + text(value);
        if (!wanted(name)) continue;
        Problem problem(c);
        problem.a[problem.a_offset[5] + problem.runs[0].offset + 4] = value;
        for (int64_t j = 0; j < c.n; ++j) problem.weights[j * c.k + 4] = 0;  // ∞·0 is NaN too
        std::string why;
        const Floats out = problem.run(*table, 0, false, why);
        for (int64_t i = 0; i < c.m && why.empty(); ++i)
          for (int64_t j = 0; j < c.outputs(); ++j)
            if (std::isnan(out[i * problem.ldc + j]) != (i == 5))
              why = "row " + std::to_string(i) + " column " + std::to_string(j) + ": " +
                    text(out[i * problem.ldc + j]);
        report(name, why);
      }
}

const Register suite([] {
  sizes();
  epilogues();
  layers();
  not_a_number();
});

}  // namespace
}  // namespace nd::test
