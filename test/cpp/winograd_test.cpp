// Winograd transforms of every table and precision against their definition (Lavin & Gray 2016), computed in
// double.
#include <cmath>
#include <functional>

#include "harness.h"
#include "cpu/kernels/reduced_gemm.h"
#include "tables.h"

namespace nd::test {
using namespace nd::cpu;
namespace {

constexpr double kInput[4][4] = {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, 1, 0, -1}};  // Bᵀ
constexpr double kOutput[2][4] = {{1, 1, 1, 0}, {0, 1, -1, -1}};                              // Aᵀ

/// M d Mᵀ of a 4×4 tile at (y, x); size receives the sum of the magnitudes of the terms.
template <const auto& kMatrix>
double transformed(const std::function<double(int, int)>& d, int y, int x, double& size) {
  double sum = 0;
  size = 0;
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j) {
      const double term = kMatrix[y][i] * kMatrix[x][j] * d(i, j);
      sum += term;
      size += std::fabs(term);
    }
  return sum;
}

float widen(uint16_t x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// Tiles of c channels in rows of six pixels, with values up to `largest`. Channels of the output are padded
/// to a multiple. `reduced` is null for float32.
void input(const Kernels& table, const ReducedGemm* reduced, int64_t c, float largest = 1) {
  const bool int8 = reduced && reduced == table.i8, int16 = reduced && reduced == table.i16;
  const bool bf16 = reduced && !int8 && !int16;
  const std::string name = std::string("winograd input/") + table.name +
                           (int8    ? "-i8"
                            : int16 ? "-i16"
                            : bf16  ? "-bf16"
                                    : "") +
                           " c=" + std::to_string(c) + (largest == 1 ? "" : " largest=" + text(largest));
  if (!wanted(name)) return;
  const int64_t multiple = reduced ? reduced->multiple : 16;
  const int64_t width = 6, tiles = 3, padded = (c + multiple - 1) / multiple * multiple;
  // Two groups if there are enough channels.
  const int64_t group = padded > 2 * multiple ? (padded / multiple + 1) / 2 * multiple : padded;
  const int64_t groups = (padded + group - 1) / group;
  const int64_t offset[tiles] = {0, 2 * c, (2 * width + 1) * c};
  Random random(name);
  Floats x(6 * width * c);
  for (int64_t i = 0; i < x.size(); ++i) x[i] = random.uniform() * largest;
  const int64_t count = 16 * tiles * padded;
  Floats out(int8 ? (count + 3) / 4 : reduced ? (count + 1) / 2 : count), scales(2 * 16 * tiles * groups);
  if (reduced)
    reduced->winograd_input(x.get(), offset, tiles, c, width * c, padded, group, out.get(), scales.get());
  else
    table.winograd_input(x.get(), offset, tiles, c, width * c, padded, out.get());
  std::string why = out.guards();
  if (why.empty()) why = scales.guards();
  for (int64_t at = 0; at < count && why.empty(); ++at) {
    const int64_t position = at / (tiles * padded), t = at / padded % tiles, j = at % padded;
    if (j >= c && !reduced) {
      if (!out.untouched(at)) why = "wrote channel " + std::to_string(j);
      continue;
    }
    if (int8 && j >= c) continue;
    double size = 0, truth = 0;
    if (j < c)
      truth = transformed<kInput>(
          [&](int y, int column) -> double { return x[offset[t] + y * width * c + column * c + j]; },
          static_cast<int>(position / 4), static_cast<int>(position % 4), size);
    double got = reduced ? 0 : out[at], tolerance = size * 0x1p-22;
    if (int8) {
      const float* scale = scales.get() + 2 * ((position * tiles + t) * groups + j / group);
      got = scale[1] + double{scale[0]} * reinterpret_cast<const uint8_t*>(out.get())[at];
      tolerance += (0.5 + 255 * 0x1p-20) * scale[0];
      // Sums of four pixels from −1 to 1 have a range of at most 8.
      if (!(scale[0] >= 0 && scale[0] <= 8.0f / 255 * largest)) why = "step " + text(scale[0]);
      // A tiny range is stored as its lowest value.
      if (255.5f * scale[0] < kMinRange) {
        if (got != scale[1]) why = "channel " + std::to_string(j) + " of a tiny range is not the lowest";
        tolerance += kMinRange;
      }
    } else if (int16) {
      const float* scale = scales.get() + 2 * ((position * tiles + t) * groups + j / group);
      got = double{scale[0]} * reinterpret_cast<const int16_t*>(out.get())[at];
      tolerance += 0.501 * scale[0];
      // The largest of sixteen sums of four pixels may be four times the largest pixel.
      if (scale[1] != 0 || !(scale[0] >= 0 && scale[0] <= 4.0f / 8191 * largest))
        why = "step " + text(scale[0]) + ", offset " + text(scale[1]);
      if (scale[0] == 0) tolerance += 4 * 0x1p-110;
    } else if (bf16) {
      got = widen(reinterpret_cast<const uint16_t*>(out.get())[at]);
      tolerance += (std::fabs(truth) + size * 0x1p-22) * 0x1p-8;
    }
    if (!(std::fabs(got - truth) <= tolerance))
      why = "position " + std::to_string(position) + " tile " + std::to_string(t) + " channel " +
            std::to_string(j) + ": " + text(got) + ", expected " + text(truth);
  }
  report(name, why);
}

/// Tiles at the right and lower edges of an image of odd size; `addends`: with residual, bias and image_bias.
void output(const Kernels& table, int64_t columns, bool addends, bool relu) {
  const std::string name = "winograd output/" + std::string(table.name) + " c=" + std::to_string(columns) +
                           (addends ? " +" : "") + (relu ? " relu" : "");
  if (!wanted(name)) return;
  const int64_t width = 5, pixel = columns + 3, row = width * pixel, tiles = 3, ld = columns + 5;
  Random random(name);
  Floats products(16 * tiles * ld), out(3 * row), residual(3 * row), bias(columns), image_bias(columns);
  for (Floats* all : {&products, &residual, &bias, &image_bias})
    for (int64_t i = 0; i < all->size(); ++i) (*all)[i] = random.uniform();
  const int64_t offset[tiles] = {0, 2 * pixel, 2 * row + 4 * pixel};
  const uint8_t valid[tiles] = {15, 5, 1};  // all pixels, the left column, one pixel
  WinogradOutput args;
  args.products = products.get();
  args.tiles = tiles;
  args.ld = ld;
  args.columns = columns;
  args.offset = offset;
  args.valid = valid;
  args.pixel = pixel;
  args.row = row;
  args.c = out.get();
  args.relu = relu;
  if (addends) {
    args.residual = residual.get();
    args.bias = bias.get();
    args.image_bias = image_bias.get();
  }
  table.winograd_output(args);
  std::string why = out.guards();
  std::vector<bool> written(static_cast<size_t>(out.size()));
  for (int64_t t = 0; t < tiles; ++t)
    for (int bit = 0; bit < 4; ++bit)
      for (int64_t j = 0; j < columns && (valid[t] >> bit & 1); ++j) {
        const int64_t at = offset[t] + bit / 2 * row + bit % 2 * pixel + j;
        written[static_cast<size_t>(at)] = true;
        double size = 0;
        double truth = transformed<kOutput>(
            [&](int y, int x) -> double { return products[((y * 4 + x) * tiles + t) * ld + j]; }, bit / 2,
            bit % 2, size);
        if (addends) {
          truth += static_cast<double>(bias[j]) + image_bias[j] + residual[at];
          size += 3;
        }
        if (relu) truth = std::max(truth, 0.0);
        if (why.empty() && !(std::fabs(out[at] - truth) <= size * 0x1p-21))
          why = "tile " + std::to_string(t) + " pixel " + std::to_string(bit) + " channel " +
                std::to_string(j) + ": " + text(out[at]) + ", expected " + text(truth);
      }
  for (int64_t i = 0; i < out.size() && why.empty(); ++i)
    if (!written[static_cast<size_t>(i)] && !out.untouched(i)) why = "wrote element " + std::to_string(i);
  report(name, why);
}

const Register suite([] {
  for (int64_t c : {1, 3, 4, 7, 16, 17, 33, 64, 65, 200}) {
    for (const Kernels* table : float_tables()) {
      if (!table->winograd_input) continue;
      input(*table, nullptr, c);
      for (bool addends : {false, true})
        for (bool relu : {false, true}) output(*table, c, addends, relu);
    }
    for (const Kernels* table : all_tables())
      for (const ReducedGemm* reduced : {table->bf16, table->i8, table->i16})
        if (reduced && reduced->winograd_input) input(*table, reduced, c);
    for (const Kernels* table : all_tables())
      for (const float largest : {0x1p-126f, 0x1p-140f})
        for (const ReducedGemm* reduced : {table->i8, table->i16})
          if (reduced && reduced->winograd_input) input(*table, reduced, c, largest);
  }
});

}  // namespace
}  // namespace nd::test
