// Normalization, elementwise operations and changes of layout of every table against the scalar reference.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "harness.h"
#include "tables.h"
#include "cpu/kernels/kernels.h"

namespace nd::test {
using namespace nd::cpu;
namespace {

constexpr double kEps = 0x1p-23;
constexpr int64_t kSizes[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10,  11, 12,
                              13, 14, 15, 16, 17, 31, 33, 63, 65, 130, 320};

void each_table(const std::string& op, const std::string& parameters,
                const std::function<std::string(const Kernels&, Random)>& check) {
  for (const Kernels* table : float_tables()) {
    const std::string name = op + "/" + table->name + " " + parameters;
    if (wanted(name)) report(name, check(*table, Random(op + parameters)));
  }
}

std::string compare(const Floats& got, const Floats& truth, const std::function<double(int64_t)>& tolerance) {
  for (int64_t i = 0; i < truth.size(); ++i) {
    const double error = std::fabs(static_cast<double>(got[i]) - truth[i]);
    if (!(error <= tolerance(i)))
      return "element " + std::to_string(i) + ": " + text(got[i]) + ", expected " + text(truth[i]) +
             " within " + text(tolerance(i));
  }
  return got.guards();
}

Floats random_floats(int64_t count, int64_t skew, Random& random, float size = 1, float offset = 0) {
  Floats x(count, skew);
  for (int64_t i = 0; i < count; ++i) x[i] = random.uniform() * size + offset;
  return x;
}

void moments(int64_t rows, int64_t c, float offset) {
  each_table(
      "channel_moments",
      "rows=" + std::to_string(rows) + " c=" + std::to_string(c) + " offset=" + text(offset),
      [=](const Kernels& table, Random random) {
        Floats x = random_floats(rows * c, 1, random, 1, offset);
        Floats mean(c), m2(c, 1), true_mean(c), true_m2(c);
        table.channel_moments(x.get(), rows, c, mean.get(), m2.get());
        reference().channel_moments(x.get(), rows, c, true_mean.get(), true_m2.get());
        // |x − shift| ≤ 2, so no square exceeds 4; the data is rounded after the offset was added.
        std::string why = compare(mean, true_mean, [&](int64_t) { return kEps * (20 + std::fabs(offset)); });
        if (why.empty())
          why = compare(m2, true_m2, [&](int64_t) { return kEps * rows * (20 + std::fabs(offset) * 0.01); });
        return why;
      });
}

void affine(int64_t rows, int64_t c, bool scaled, bool silu, bool in_place) {
  each_table("affine_rows",
             "rows=" + std::to_string(rows) + " c=" + std::to_string(c) +
                 " scaled=" + std::to_string(scaled) + " silu=" + std::to_string(silu) +
                 " in_place=" + std::to_string(in_place),
             [=](const Kernels& table, Random random) {
               Floats x = random_floats(rows * c, 3, random, 12);
               Floats scale = random_floats(c, 1, random, 2), shift = random_floats(c, 0, random);
               const float* s = scaled ? scale.get() : nullptr;
               const float* b = scaled ? shift.get() : nullptr;
               Floats out(rows * c, 1), truth(rows * c), copy = random_floats(rows * c, 2, random);
               reference().affine_rows(x.get(), rows, c, s, b, silu, truth.get());
               if (in_place) std::copy(x.get(), x.get() + rows * c, copy.get());
               Floats& result = in_place ? copy : out;
               table.affine_rows(in_place ? copy.get() : x.get(), rows, c, s, b, silu, result.get());
               return compare(result, truth, [&](int64_t i) {
                 const double value = std::fabs(x[i]) * (scaled ? std::fabs(scale[i % c]) : 1) + 1;
                 return (scaled || silu) ? 4 * kEps * value : 0.0;
               });
             });
}

void layer_norm(int64_t rows, int64_t c, float offset) {
  each_table(
      "layer_norm", "rows=" + std::to_string(rows) + " c=" + std::to_string(c) + " offset=" + text(offset),
      [=](const Kernels& table, Random random) {
        Floats x = random_floats(rows * c, 1, random, 1, offset);
        Floats gamma = random_floats(c, 2, random), beta = random_floats(c, 1, random);
        Floats out(rows * c, 3), truth(rows * c);
        const float eps = 1e-5f;
        table.layer_norm(x.get(), rows, c, gamma.get(), beta.get(), eps, out.get());
        reference().layer_norm(x.get(), rows, c, gamma.get(), beta.get(), eps, truth.get());
        std::string why = compare(out, truth, [&](int64_t i) {
          // The rounding error of the mean is divided by the standard deviation of the row.
          const float* row = x.get() + i / c * c;
          double mean = 0, square = 0;
          for (int64_t j = 0; j < c; ++j) mean += row[j];
          mean /= c;
          for (int64_t j = 0; j < c; ++j) square += (row[j] - mean) * (row[j] - mean);
          const double inverse = 1 / std::sqrt(square / c + eps);
          return kEps * (8 + 4 * inverse * (1 + std::fabs(offset)) + 8 * std::fabs(x[i] - mean) * inverse);
        });
        if (!why.empty()) return why;
        table.layer_norm(x.get(), rows, c, gamma.get(), beta.get(), eps, x.get());  // in place
        for (int64_t i = 0; i < rows * c; ++i)
          if (!same_bits(x[i], out[i])) return "in place, element " + std::to_string(i) + " differs";
        return x.guards();
      });
}

void elementwise(int64_t count) {
  for (int f : {0, 1, 2, 3, 5}) {
    const Activation activation = static_cast<Activation>(f);
    each_table("activate", "count=" + std::to_string(count) + " f=" + std::to_string(f),
               [=](const Kernels& table, Random random) {
                 Floats x = random_floats(count, 1, random, count % 2 ? 8.0f : 110.0f),
                        out = Floats(count, 1), truth(count);
                 std::copy(x.get(), x.get() + count, out.get());
                 std::copy(x.get(), x.get() + count, truth.get());
                 table.activate(out.get(), count, activation);
                 reference().activate(truth.get(), count, activation);
                 return compare(out, truth, [&](int64_t i) {
                   return f == 0 || f == 5 ? 0.0 : 2e-7 * std::max(1.0, static_cast<double>(std::fabs(x[i])));
                 });
               });
  }
  each_table("add", "count=" + std::to_string(count), [=](const Kernels& table, Random random) {
    Floats a = random_floats(count, 1, random), b = random_floats(count, 2, random), out(count, 3),
           truth(count);
    table.add(a.get(), b.get(), count, out.get());
    reference().add(a.get(), b.get(), count, truth.get());
    std::string why = compare(out, truth, [](int64_t) { return 0.0; });
    table.add(a.get(), b.get(), count, b.get());
    if (why.empty()) why = compare(b, truth, [](int64_t) { return 0.0; });
    return why;
  });
}

void layout(int64_t c, int64_t pixels) {
  for (int back = 0; back < 2; ++back)
    each_table(back ? "rows_to_planar" : "planar_to_rows",
               "c=" + std::to_string(c) + " pixels=" + std::to_string(pixels),
               [=](const Kernels& table, Random random) {
                 Floats x = random_floats(c * pixels, 1, random), out(c * pixels, 3), truth(c * pixels);
                 (back ? table.rows_to_planar : table.planar_to_rows)(x.get(), c, pixels, out.get());
                 (back ? reference().rows_to_planar : reference().planar_to_rows)(x.get(), c, pixels,
                                                                                  truth.get());
                 return compare(out, truth, [](int64_t) { return 0.0; });
               });
}

/// Sums of scaled rows, added to what is there; the reference sums in double precision.
void scaled_rows() {
  for (int64_t length : {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 320, 1153})
    for (int64_t count : {0, 1, 2, 3, 32, 33})
      each_table("add_scaled_rows", "count=" + std::to_string(count) + " length=" + std::to_string(length),
                 [=](const Kernels& table, Random random) {
                   Floats scale = random_floats(count, 1, random),
                          rows = random_floats(count * length, 3, random),
                          start = random_floats(length, 2, random), out(length, 1), truth(length);
                   std::copy_n(start.get(), length, out.get());
                   std::copy_n(start.get(), length, truth.get());
                   table.decoders.add_scaled_rows(scale.get(), rows.get(), count, length, out.get());
                   reference().decoders.add_scaled_rows(scale.get(), rows.get(), count, length, truth.get());
                   return compare(out, truth, [=](int64_t j) {
                     double magnitude = std::fabs(start[j]);
                     for (int64_t i = 0; i < count; ++i)
                       magnitude += std::fabs(static_cast<double>(scale[i]) * rows[i * length + j]);
                     return 1e-6 * magnitude;
                   });
                 });
}

/// All 65,536 values of both 16-bit formats (a NaN may become another NaN), then short arrays.
void number_formats() {
  for (int bfloat = 0; bfloat < 2; ++bfloat)
    for (int64_t count : {65536, 1, 2, 3, 5, 7, 9, 15, 17, 33}) {
      each_table(bfloat ? "bfloat16_to_float" : "half_to_float", "count=" + std::to_string(count),
                 [=](const Kernels& table, Random) {
                   std::vector<uint16_t> x(count);
                   for (int64_t i = 0; i < count; ++i)
                     x[i] = static_cast<uint16_t>(i * (count < 65536 ? 1777 : 1));
                   Floats out(count, 1), truth(count);
                   (bfloat ? table.decoders.bfloat16_to_float : table.decoders.half_to_float)(x.data(), count,
                                                                                              out.get());
                   (bfloat ? reference().decoders.bfloat16_to_float : reference().decoders.half_to_float)(
                       x.data(), count, truth.get());
                   for (int64_t i = 0; i < count; ++i)
                     if (!(same_bits(out[i], truth[i]) || (std::isnan(out[i]) && std::isnan(truth[i]))))
                       return "bits " + std::to_string(x[i]) + ": " + text(out[i]) + ", expected " +
                              text(truth[i]);
                   return out.guards();
                 });
    }
}

void not_a_number() {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (int f : {0, 1, 2, 3, 5})
    each_table("activate nan", "f=" + std::to_string(f), [=](const Kernels& table, Random random) {
      Floats x = random_floats(35, 1, random);
      for (int64_t i : {0, 17, 34}) x[i] = nan;
      table.activate(x.get(), 35, static_cast<Activation>(f));
      for (int64_t i = 0; i < 35; ++i)
        if (std::isnan(x[i]) != (i % 17 == 0)) return "element " + std::to_string(i) + ": " + text(x[i]);
      return std::string();
    });
  each_table("norm nan", "", [=](const Kernels& table, Random random) {
    Floats x = random_floats(10 * 35, 1, random), mean(35), m2(35), one = random_floats(35, 0, random),
           out(350);
    x[4 * 35 + 33] = nan;
    table.channel_moments(x.get(), 10, 35, mean.get(), m2.get());
    for (int64_t j = 0; j < 35; ++j)
      if (std::isnan(mean[j]) != (j == 33) || std::isnan(m2[j]) != (j == 33))
        return "channel " + std::to_string(j);
    table.layer_norm(x.get(), 10, 35, one.get(), one.get(), 1e-5f, out.get());
    for (int64_t i = 0; i < 350; ++i)
      if (std::isnan(out[i]) != (i / 35 == 4)) return "layer_norm element " + std::to_string(i);
    return std::string();
  });
}

const Register suite([] {
  const bool few = small();
  int index = 0;
  for (int64_t rows : {1, 2, 3, 7, 17, 64, 65, 200})
    for (int64_t c : kSizes) {
      if (few && index++ % 7) continue;
      moments(rows, c, 0);
      moments(rows, c, 1000);
      affine(rows, c, true, c % 2, rows % 2);
      affine(rows, c, c % 2, true, c % 3);
      affine(rows, c, false, false, false);
      layer_norm(rows, c, 0);
      layer_norm(rows, c, 100);
      layout(c, rows);
    }
  moments(few ? 1000 : 20000, 33, 3);
  layer_norm(3, 1280, 0);
  for (int64_t count : kSizes) elementwise(count);
  elementwise(few ? 2001 : 20001);
  elementwise(few ? 2000 : 20000);
  scaled_rows();
  number_formats();
  not_a_number();
});

}  // namespace
}  // namespace nd::test
