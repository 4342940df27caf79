// Reduced-precision matrix products of every table. The formats are private to a table, so whole products
// (convert, pack, multiply, epilogue) are compared with the float32 reference, within a bound that follows
// from the steps of quantization.
#include <algorithm>
#include <cmath>
#include <limits>

#include "harness.h"
#include "cpu/kernels/features.h"
#include "cpu/kernels/reduced_gemm.h"
#include "gemm_int8_evex.h"
#include "tables.h"

namespace nd::test {
using namespace nd::cpu;
namespace {

constexpr double kEps = 0x1p-23;
// Of int16: the longest group, the sum of the magnitudes of its weights, and groups that are stored as zeros.
constexpr double kInt16Group = 256, kInt16Sum = 262000, kInt16Tiny = 0x1p-110;
constexpr int64_t kRowPixels = 7;  // pixels in a row of the image that the windows lie in
constexpr int64_t kSizes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 31, 33, 63, 65};

enum : int {
  kBias = 1,
  kImageBias = 2,
  kResidual = 4,
  kScale = 8,
  kOffsets = 16,
  kAffine = 32,
  kSilu = 64,
  kExact = 128,  // values that every format represents
};

struct Case {
  int64_t m, n, c, taps;  // windows of taps × taps pixels of c channels
  int64_t max_group;
  Activation activation;
  int flags;

  std::string name() const {
    return "m=" + std::to_string(m) + " n=" + std::to_string(n) + " c=" + std::to_string(c) +
           " taps=" + std::to_string(taps) + " max_group=" + std::to_string(max_group) +
           " act=" + std::to_string(static_cast<int>(activation)) + " flags=" + std::to_string(flags);
  }
  bool geglu() const { return activation == Activation::geglu; }
  int64_t outputs() const { return geglu() ? n / 2 : n; }
  int64_t pixels() const { return m + (taps - 1) * kRowPixels + taps; }
  int64_t k() const { return taps * taps * c; }
};

struct Format {
  std::string name;
  const Kernels* table;  // has the same nr and epilogue
  const ReducedGemm* reduced;
  double steps;  // of int8 activations; of int16 activations from zero; 0 for bfloat16
  bool int16 = false;

  /// Half of the largest difference between two weights in sequence, of a column of one tap.
  double half_weight_step(double largest, double sum) const {
    return int16 ? std::max(largest / 32767, std::min(sum, kInt16Group * largest) / kInt16Sum) / 2
                 : largest / 254;
  }
  /// The same of activations that lie between these two.
  double half_step(double low, double high) const {
    return (int16 ? std::max(-low, high) : high - low) / steps / 2;
  }
};

std::vector<Format> formats() {
  std::vector<Format> all;
  for (const Kernels* k : all_tables()) {
    // Without VNNI, the 16-bit sums of two products have room for seven-bit activations only.
    const double steps = std::string(k->name) == "avx2" ? 127.0 : 255.0;
    if (k->bf16) all.push_back({k->name + std::string("-bf16"), k, k->bf16, 0});
    if (k->i16) all.push_back({k->name + std::string("-i16"), k, k->i16, 8191.0, true});
    if (k->i8) all.push_back({k->name + std::string("-i8"), k, k->i8, steps});
#ifdef ND_X86_KERNELS
    if (std::string(k->name) == "avx2" && cpu_features().avx512vl && cpu_features().avx512vnni)
      all.push_back({"avx2-vnni-evex-i8", k, &avx2_evex_vnni_i8, 255.0});
#endif
  }
  return all;
}

int64_t round_up(int64_t x, int64_t multiple) {
  return (x + multiple - 1) / multiple * multiple;
}

struct Problem {
  Case c;
  Floats x, scale, shift, weights, bias, image_bias, residual;
  std::vector<float> values;  // [pixels][c] as the product sees them
  int64_t ldc;
  static constexpr int64_t kCleared = 2;  // a pixel of zero bytes with zero scales

  explicit Problem(const Case& case_)
      : c(case_),
        x(c.pixels() * c.c),
        scale(c.c),
        shift(c.c),
        weights(c.n * c.k()),
        bias(c.n),
        image_bias((c.m + 2) / 3 * (c.n + 1)),
        residual(c.m * (c.outputs() + 7)),
        ldc(c.outputs() + 7) {
    Random random(c.name());
    const bool exact = c.flags & kExact;
    for (Floats* all : {&x, &scale, &shift, &weights, &bias, &image_bias, &residual})
      for (int64_t i = 0; i < all->size(); ++i) (*all)[i] = random.uniform();
    if (exact) {
      // Two values are the ends of any range of steps, and weights of ±1 and 0 are exact.
      for (int64_t i = 0; i < x.size(); ++i) x[i] = random.below(2) ? 2.0f : -1.0f;
      for (int64_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<float>(random.below(3) - 1);
    }
    update();
  }

  void update() {
    const bool affine = c.flags & kAffine;
    values.resize(static_cast<size_t>(x.size()));
    reference().affine_rows(x.get(), c.pixels(), c.c, affine ? scale.get() : nullptr,
                            affine ? shift.get() : nullptr, c.flags & kSilu, values.data());
    if (c.pixels() > kCleared) std::fill_n(values.begin() + kCleared * c.c, c.c, 0.0f);
  }

  int64_t pixel_of(int64_t row) const { return c.flags & kOffsets ? c.m - 1 - row : row; }

  /// The weight row in slot `slot` of panel `panel`.
  int64_t source(int64_t nr, int64_t panel, int64_t slot) const {
    if (!c.geglu()) return panel * nr + slot;
    const int64_t half = std::min(nr, c.n - panel * nr) / 2;
    return slot < half ? panel * nr / 2 + slot : c.n / 2 + panel * nr / 2 + slot - half;
  }

  /// The epilogue, which every precision shares. `order` receives the bias in the order of the panels.
  GemmEpilogue epilogue(int64_t nr, Floats& order, std::vector<int64_t>& c_offset, Floats& out) {
    for (int64_t i = 0; i < c.n; ++i) order[i] = bias[source(nr, i / nr, i % nr)];
    for (int64_t i = 0; i < c.m; ++i) c_offset.push_back((i + 1) % c.m * ldc);
    GemmEpilogue result;
    result.c = out.get();
    if (c.flags & kOffsets) result.c_offset = c_offset.data();
    result.ldc = result.ldr = ldc;
    if (c.flags & kBias) result.bias = order.get();
    if (c.flags & kImageBias) result.image_bias = image_bias.get();
    result.image_bias_stride = c.n + 1;
    result.rows_per_image = 3;
    if (c.flags & kResidual) result.residual = residual.get();
    result.activation = c.activation;
    if (c.flags & kScale) result.scale = 0.5f;
    return result;
  }

  Floats truth() {
    const Kernels& table = reference();
    const int64_t nr = table.nr, panels = (c.n + nr - 1) / nr;
    Floats packed(panels * nr * c.k()), order(c.n), out(c.m * ldc);
    for (int64_t p = 0; p < panels; ++p) {
      std::vector<const float*> rows;
      for (int64_t s = 0; s < std::min(nr, c.n - p * nr); ++s)
        rows.push_back(weights.get() + source(nr, p, s) * c.k());
      table.pack_panel(rows.data(), static_cast<int64_t>(rows.size()), c.k(), packed.get() + p * nr * c.k());
    }
    std::vector<int64_t> row_offset, c_offset;
    std::vector<KRun> runs;
    for (int64_t i = 0; i < c.m; ++i) row_offset.push_back(pixel_of(i) * c.c);
    for (int64_t y = 0; y < c.taps; ++y) runs.push_back({y * kRowPixels * c.c, c.taps * c.c});
    GemmArgs args;
    args.m = c.m;
    args.n = c.n;
    args.k = c.k();
    args.lhs = {values.data(), row_offset.data(), 0, runs.data(), c.taps};
    args.rhs.panels = packed.get();
    args.epilogue = epilogue(nr, order, c_offset, out);
    table.gemm(args, 0, c.m, 0, panels);
    return out;
  }

  Floats run(const Format& format, int64_t row_cut, bool each_panel, std::string& why) {
    const ReducedGemm& reduced = *format.reduced;
    const int64_t nr = format.table->nr, panels = (c.n + nr - 1) / nr,
                  padded = round_up(c.c, reduced.multiple);
    const bool scaled = reduced.scale_floats > 0;
    const int64_t max_group = std::min(reduced.max_group, round_up(c.max_group, reduced.multiple));
    const int64_t length = scaled ? padded : c.taps * padded, group = std::min(length, max_group);
    const int64_t per_pixel = scaled ? (padded + group - 1) / group : 1;
    std::vector<KGroup> groups;
    for (int64_t y = 0; y < c.taps; ++y)
      for (int64_t t = 0; t < (scaled ? c.taps : 1); ++t)
        for (int64_t begin = 0; begin < length; begin += group)
          groups.push_back({(y * kRowPixels + t) * padded + begin, std::min(group, length - begin),
                            (y * kRowPixels + t) * per_pixel + begin / group});
    const int64_t group_count = static_cast<int64_t>(groups.size());

    const int64_t panel_bytes = reduced.panel_bytes(groups.data(), group_count);
    if (panel_bytes % 64) why = "a panel of " + std::to_string(panel_bytes) + " bytes";
    const int64_t k = c.taps * c.taps * padded;
    Floats packed(panels * panel_bytes / 4), order(c.n), out(c.m * ldc, 1);
    std::vector<float> padded_rows(static_cast<size_t>(nr * k));
    for (int64_t p = 0; p < panels; ++p) {
      std::vector<const float*> rows;
      for (int64_t s = 0; s < std::min(nr, c.n - p * nr); ++s) {
        float* row = padded_rows.data() + s * k;
        for (int64_t i = 0; i < k; ++i)
          row[i] = i % padded < c.c ? weights[source(nr, p, s) * c.k() + i / padded * c.c + i % padded] : 0;
        rows.push_back(row);
      }
      reduced.pack_panel(rows.data(), static_cast<int64_t>(rows.size()), groups.data(), group_count,
                         reinterpret_cast<uint8_t*>(packed.get()) + p * panel_bytes);
    }

    // Pixels are converted a few at a time, as in the tasks of layers.
    Floats converted(c.pixels() * padded * reduced.element_bytes / 4),
        scales(scaled ? c.pixels() * per_pixel * 2 : 0);
    uint8_t* const bytes = reinterpret_cast<uint8_t*>(converted.get());
    const int64_t pixel_bytes = padded * reduced.element_bytes, pixel_scales = scaled ? per_pixel * 2 : 0;
    for (int64_t first = 0; first < c.pixels(); first += 5)
      reduced.convert_rows(x.get() + first * c.c, std::min<int64_t>(5, c.pixels() - first), c.c,
                           c.flags & kAffine ? scale.get() : nullptr,
                           c.flags & kAffine ? shift.get() : nullptr, c.flags & kSilu, padded, group,
                           bytes + first * pixel_bytes, scales.get() + first * pixel_scales);
    if (c.pixels() > kCleared) {
      std::memset(bytes + kCleared * pixel_bytes, 0, static_cast<size_t>(pixel_bytes));
      for (int64_t i = 0; i < pixel_scales; ++i) scales[kCleared * pixel_scales + i] = 0;
    }
    std::vector<int64_t> row_offset, c_offset;
    for (int64_t i = 0; i < c.m; ++i) row_offset.push_back(pixel_of(i) * padded);
    ReducedGemmArgs args;
    args.m = c.m;
    args.n = c.n;
    args.groups = groups.data();
    args.group_count = group_count;
    args.lhs = {bytes, c.flags & kOffsets ? row_offset.data() : nullptr, padded, scales.get(), per_pixel};
    args.rhs = {reinterpret_cast<const uint8_t*>(packed.get()), panel_bytes};
    args.epilogue = epilogue(nr, order, c_offset, out);
    for (int64_t m0 = 0, m1; m0 < c.m; m0 = m1) {
      m1 = row_cut ? std::min(c.m, m0 + row_cut) : c.m;
      for (int64_t p = 0; p < panels; p += each_panel ? 1 : panels)
        reduced.gemm(args, m0, m1, p, each_panel ? p + 1 : panels);
    }
    for (const Floats* buffer : {&packed, &converted, &scales, &out})
      if (why.empty()) why = buffer->guards();
    for (int64_t i = 0; i < c.m && why.empty(); ++i)
      for (int64_t j = c.outputs(); j < ldc; ++j)
        if (!out.untouched(i * ldc + j)) why = "wrote beyond the columns of row " + std::to_string(i);
    return out;
  }

  /// The standard deviation of the error of a dot product. A rounding error is uniform in ± half a step, so
  /// its variance is a third of the square of half a step. The range of a whole pixel is at least that of its
  /// groups.
  double deviation(const Format& format, int64_t row, int64_t column) const {
    double variance = 0;
    const float* w = &weights[column * c.k()];
    double widest = 0;
    for (int64_t i = 0; i < c.k(); ++i) widest = std::max(widest, std::fabs(static_cast<double>(w[i])));
    for (int64_t tap = 0; tap < c.taps * c.taps; ++tap, w += c.c) {
      const float* a = values.data() + (pixel_of(row) + tap / c.taps * kRowPixels + tap % c.taps) * c.c;
      double low = a[0], high = a[0], a2 = 0, w1 = 0, w2 = 0, both = 0;
      for (int64_t i = 0; i < c.c; ++i) {
        low = std::min<double>(low, a[i]);
        high = std::max<double>(high, a[i]);
        a2 += static_cast<double>(a[i]) * a[i];
        w1 += std::fabs(static_cast<double>(w[i]));
        w2 += static_cast<double>(w[i]) * w[i];
        both += std::pow(static_cast<double>(a[i]) * w[i], 2);
      }
      if (format.steps)
        variance += (std::pow(format.half_step(low, high), 2) * w2 +
                     std::pow(format.half_weight_step(widest, w1), 2) * a2) /
                    3;
      else
        variance += both * std::pow(0x1p-9, 2) * 2;
    }
    return std::sqrt(variance);
  }

  double norm(int64_t row, int64_t column) const {
    double a2 = 0, w2 = 0;
    for (int64_t i = 0; i < c.k(); ++i) {
      const int64_t tap = i / c.c, pixel = pixel_of(row) + tap / c.taps * kRowPixels + tap % c.taps;
      a2 += std::pow(values[static_cast<size_t>(pixel * c.c + i % c.c)], 2.0);
      w2 += std::pow(weights[column * c.k() + i], 2.0);
    }
    return std::sqrt(a2 * w2);
  }

  /// Seven standard deviations, which is more than the worst case of up to a dozen terms.
  double tolerance(const Format& format, int64_t row, int64_t column) const {
    auto error = [&](int64_t j) {
      const double rounding = kEps * ((16 + std::sqrt(static_cast<double>(c.k()))) * norm(row, j) + 16);
      // int16 has steps on both sides of zero, and no exact ±1.
      const bool exact = (c.flags & kExact) && !format.int16;
      return (exact ? 0 : 7 * deviation(format, row, j)) + rounding;
    };
    auto largest = [&](int64_t j) { return norm(row, j) + 2; };  // with both biases
    double total = error(column);
    if (c.geglu())
      total = largest(column) * (1.2 * error(c.n / 2 + column) + 1e-6) +
              (largest(c.n / 2 + column) + error(c.n / 2 + column)) * total;
    else if (c.activation != Activation::none)
      total = 1.2 * total + 4e-7 * largest(column);
    return total + kEps * 4 * (largest(column) + 2);
  }

  std::string compare(const Format& format, const Floats& got, const Floats& truth) const {
    for (int64_t i = 0; i < c.m; ++i)
      for (int64_t j = 0; j < c.outputs(); ++j) {
        const int64_t at = (c.flags & kOffsets ? (i + 1) % c.m : i) * ldc + j;
        const double tol = tolerance(format, i, j),
                     error = std::fabs(static_cast<double>(got[at]) - truth[at]);
        if (!(error <= tol))
          return "row " + std::to_string(i) + " column " + std::to_string(j) + ": " + text(got[at]) +
                 ", expected " + text(truth[at]) + " within " + text(tol);
      }
    return "";
  }
};

void check(const Case& c) {
  static const std::vector<Format> all = formats();
  for (const Format& format : all) {
    const std::string name = "reduced gemm/" + format.name + " " + c.name();
    if (!wanted(name)) continue;
    Problem problem(c);
    std::string why;
    const Floats truth = problem.truth();
    const Floats whole = problem.run(format, 0, false, why);
    if (why.empty()) why = problem.compare(format, whole, truth);
    for (int64_t cut : {1, 5, 8}) {
      if (!why.empty() || cut >= c.m) break;
      const Floats pieces = problem.run(format, cut, cut != 5, why);
      for (int64_t i = 0; i < whole.size() && why.empty(); ++i)
        if (!same_bits(whole[i], pieces[i]))
          why = "cut into rows of " + std::to_string(cut) + ", element " + std::to_string(i) + ": " +
                text(whole[i]) + " or " + text(pieces[i]);
    }
    report(name, why);
  }
}

void sizes() {
  Random random("reduced sizes");
  int index = 0;
  for (int64_t m : kSizes)
    for (int64_t n : kSizes) {
      Case c{};
      c.m = m;
      c.n = n;
      c.c = kSizes[random.below(21)];
      c.taps = random.below(3) ? 1 : 3;
      c.max_group = random.below(2) ? 512 : 8;
      c.flags = static_cast<int>(random.below(256));
      c.activation = static_cast<Activation>(random.below(6));
      if (c.flags & kExact) {
        c.flags &= ~(kAffine | kSilu);
        c.activation = Activation::none;
      }
      if (c.activation == Activation::geglu) {
        c.n *= 2;
        c.flags &= ~kImageBias;
      }
      if (index++ % (small() ? 23 : 1) == 0) check(c);
    }
}

void epilogues() {
  for (int activation = 0; activation < 6; ++activation)
    for (int flags = 0; flags < 32; flags += small() ? 7 : 1)
      if (activation != 4 || !(flags & kImageBias))
        check({13, activation == 4 ? 150 : 75, 19, 1, 512, static_cast<Activation>(activation), flags});
}

/// Inputs that are normalized while they are converted, channels that end within and between groups, more
/// rows than a row block, and more weights than a K block.
void shapes() {
  for (int flags : {0, kAffine + 0, kSilu + 0, kAffine | kSilu})
    for (int64_t channels : {30, 320, 511, 513, 1100})
      check({7, 20, channels, 1, 512, Activation::none, flags});
  for (int flags : {kOffsets + 0, kOffsets | kExact}) {
    check({small() ? 200 : 415, 70, 45, 3, 24, Activation::none, flags});
    check({small() ? 9 : 200, 20, 640, 3, 512, Activation::none, flags});
    check({9, 66, 1280, 1, 512, Activation::none, flags});
  }
}

/// The largest sums that integers of a group can have: weights and activations of one size, and a few that
/// are much larger than the others.
void largest_sums() {
  for (const Format& format : formats())
    for (const bool peaks : {false, true}) {
      const Case c = {7, 70, 1024, 1, 512, Activation::none, 0};
      const std::string name =
          "reduced gemm largest sums/" + format.name + (peaks ? " with peaks" : " of equal weights");
      if (!wanted(name)) continue;
      Problem problem(c);
      for (int64_t i = 0; i < problem.weights.size(); ++i)
        problem.weights[i] = !peaks ? 1.0f : i % 300 < 5 ? -3.0f : 0.7f;
      for (int64_t i = 0; i < problem.x.size(); ++i)
        problem.x[i] = problem.weights[i % problem.weights.size()] < 0 ? -1.0f : 1.0f;
      problem.update();
      std::string why;
      const Floats truth = problem.truth();
      const Floats out = problem.run(format, 0, false, why);
      // Equal numbers round alike. A sum beyond the range of integers would be far off.
      for (int64_t i = 0; i < c.m && why.empty(); ++i)
        for (int64_t j = 0; j < c.n && why.empty(); ++j) {
          const float got = out[i * problem.ldc + j], expected = truth[i * problem.ldc + j];
          if (!(std::fabs(got - expected) <= 0.02 * problem.norm(i, j)))
            why = "row " + std::to_string(i) + " column " + std::to_string(j) + ": " + text(got) +
                  ", expected " + text(expected);
        }
      report(name, why);
    }
}

/// A NaN or an infinity among the inputs makes the rows whose windows contain it NaN, and no other.
void not_a_number() {
  for (const Format& format : formats())
    for (float value : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      const Case c = {9, 20, 37, 1, 16, Activation::none, 0};
      const std::string name = "reduced gemm nan/" + format.name + " value=" + text(value);
      if (!wanted(name)) continue;
      Problem problem(c);
      problem.x[5 * c.c + 20] = value;
      for (int64_t j = 0; j < c.n; ++j) problem.weights[j * c.k() + 20] = 0;  // ∞·0 is NaN too
      std::string why;
      const Floats out = problem.run(format, 0, false, why);
      for (int64_t i = 0; i < c.m && why.empty(); ++i)
        for (int64_t j = 0; j < c.n; ++j)
          if (std::isnan(out[i * problem.ldc + j]) != (i == 5))
            why = "row " + std::to_string(i) + " column " + std::to_string(j) + ": " +
                  text(out[i * problem.ldc + j]);
      report(name, why);
    }
}

/// Values so small that their steps have no finite inverse (kMinRange, kMinWeight). Outputs are about as
/// small, and the same in every int8 table.
void tiny_values() {
  struct Size {
    const char* of;
    float x, weights;
  };
  constexpr float kFloatMin = std::numeric_limits<float>::min();
  const std::vector<Format> all = formats();
  for (const Size size : {Size{"activations", kFloatMin, 1}, Size{"subnormal activations", 0x1p-140f, 1},
                          Size{"weights", 1, kFloatMin}, Size{"subnormal weights", 1, 0x1p-140f},
                          Size{"activations and weights", 0x1p-70f, 0x1p-130f}}) {
    const Case c = {7, 70, 40, 1, 16, Activation::none, 0};
    for (const Format& format : all) {
      const std::string name = "reduced gemm tiny " + std::string(size.of) + "/" + format.name;
      if (!wanted(name) || format.steps == 0) continue;
      Problem problem(c);
      for (int64_t i = 0; i < problem.x.size(); ++i) problem.x[i] *= size.x;
      for (int64_t i = 0; i < problem.weights.size(); ++i) problem.weights[i] *= size.weights;
      problem.update();
      std::string why;
      // The last format is the int8 reference.
      const Floats out = problem.run(format, 0, false, why),
                   expected = problem.run(all.back(), 0, false, why);
      const double largest = static_cast<double>(size.x) * size.weights * static_cast<double>(c.k());
      const double zeros =
          format.int16 ? kInt16Tiny * std::max(size.x, size.weights) * static_cast<double>(c.k()) : 0;
      for (int64_t i = 0; i < c.m && why.empty(); ++i)
        for (int64_t j = 0; j < c.n && why.empty(); ++j) {
          const float got = out[i * problem.ldc + j], truth = expected[i * problem.ldc + j];
          if (!(std::fabs(got) <= largest) || !(std::fabs(got - truth) <= 0.01 * largest + zeros))
            why = "row " + std::to_string(i) + " column " + std::to_string(j) + ": " + text(got) +
                  ", expected " + text(truth);
        }
      report(name, why);
    }
  }
}

const Register suite([] {
  sizes();
  epilogues();
  shapes();
  largest_sums();
  not_a_number();
  tiny_values();
});

}  // namespace
}  // namespace nd::test
