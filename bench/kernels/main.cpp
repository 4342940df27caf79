// kernel-bench [--table NAME] [--threads N] [--seconds S] [--json] [FILTER]: GFLOP/s of every kernel on the
// shapes of real layers, and the fraction of the measured peak; GB/s, read and written, for kernels that are
// bound by bandwidth. One thread by default.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "cpu/layers/product.h"
#include "peak.h"
#include "timing.h"

namespace nd::cpu::bench {
namespace {

void gemm(const Kernels& table, const cases::Gemm& c, double peak) {
  const std::string name = std::string("gemm ") + c.layer + " " + std::to_string(c.m) + "x" +
                           std::to_string(c.n) + "x" + std::to_string(c.k);
  if (!wanted(name)) return;
  // As a convolution over a band of 66 pixels a row: each window starts one pixel after the one before.
  const int64_t length = c.k / c.runs, pixel = c.runs == 1 ? c.k : length / 3, width = 66;
  const bool geglu = c.activation == Activation::geglu;
  const int64_t columns = geglu ? c.n / 2 : c.n;
  Buffer a(c.m * pixel + 3 * width * pixel + length), b((c.n + table.nr) * c.k), out(c.m * columns),
      bias(c.n + 64), residual(c.m * columns);
  std::vector<KRun> runs;
  for (int64_t r = 0; r < c.runs; ++r) runs.push_back({r * width * pixel, length});
  GemmArgs args;
  args.m = c.m;
  args.n = c.n;
  args.k = c.k;
  args.lhs = {a.get(), nullptr, pixel, runs.data(), c.runs};
  args.rhs.panels = b.get();
  args.epilogue.c = out.get();
  args.epilogue.ldc = args.epilogue.ldr = columns;
  args.epilogue.bias = bias.get();
  if (!geglu) args.epilogue.residual = residual.get();
  args.epilogue.activation = c.activation;
  const int64_t panels = (c.n + table.nr - 1) / table.nr;
  const ProductTasks tasks({c.m, panels, c.k * table.nr * 4, pixel * 4, false, false});
  const double time = best_time(tasks.count(), [&](int64_t i, int) {
    const ProductTasks::Task task = tasks[i];
    table.gemm(args, task.first, task.end, task.panel, task.panel + 1);
  });
  print(table.name, name, time, 2.0 * c.m * c.n * c.k, peak);
}

void bandwidth(const Kernels& table, const char* name, double bytes, const std::function<void()>& call) {
  if (!wanted(name)) return;
  print_bandwidth(table.name, name, best_time(1, [&](int64_t, int) { call(); }), bytes);
}

void bandwidth_bound(const Kernels& table) {
  const int64_t rows = 4096, c = 320, count = rows * c;
  Buffer x(count), y(count), out(count), scale(c), shift(c), mean(c), m2(c);
  bandwidth(table, "channel_moments 4096x320", 4.0 * count,
            [&] { table.channel_moments(x.get(), rows, c, mean.get(), m2.get()); });
  bandwidth(table, "affine_rows 4096x320", 8.0 * count,
            [&] { table.affine_rows(x.get(), rows, c, scale.get(), shift.get(), false, out.get()); });
  bandwidth(table, "affine_rows silu 4096x320", 8.0 * count,
            [&] { table.affine_rows(x.get(), rows, c, scale.get(), shift.get(), true, out.get()); });
  bandwidth(table, "layer_norm 4096x320", 8.0 * count,
            [&] { table.layer_norm(x.get(), rows, c, scale.get(), shift.get(), 1e-5f, out.get()); });
  bandwidth(table, "add 4096x320", 12.0 * count, [&] { table.add(x.get(), y.get(), count, out.get()); });
  bandwidth(table, "activate gelu 4096x320", 8.0 * count,
            [&] { table.activate(out.get(), count, Activation::gelu); });
  bandwidth(table, "planar_to_rows 320x4096", 8.0 * count,
            [&] { table.planar_to_rows(x.get(), c, rows, out.get()); });
  bandwidth(table, "rows_to_planar 320x4096", 8.0 * count,
            [&] { table.rows_to_planar(x.get(), c, rows, out.get()); });
  const uint16_t* fp16 = reinterpret_cast<const uint16_t*>(y.get());
  bandwidth(table, "half_to_float 1310720", 6.0 * count,
            [&] { table.decoders.half_to_float(fp16, count, out.get()); });
}

}  // namespace

void run_tables() {
  int count = 0;
  const Kernels* const* tables = available_kernels(&count);
  for (int i = 0; i < count; ++i) {
    const Kernels& table = *tables[i];
    // The reference is too slow for real shapes: it runs only if it is named.
    if (options.table.empty() ? std::strcmp(table.name, "ref") == 0 : options.table != table.name) continue;
    const double peak = measure_peak([&](int64_t rounds) { return multiply_add(table.name, rounds); });
    print_peak(table.name, "f32", peak);
    reduced_products(table);
    // Tables that differ in reduced precision share the rest.
    if (i > 0 && options.table.empty() && tables[i - 1]->gemm == table.gemm) continue;
    for (const auto& c : cases::kGemms) gemm(table, c, peak);
    for (const auto& c : cases::kAttentions) attention(table.name, "attention", table.attention, c, peak);
    bandwidth_bound(table);
  }
}

}  // namespace nd::cpu::bench

int main(int argc, char** argv) {
  using namespace nd::cpu::bench;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--table" && i + 1 < argc)
      options.table = argv[++i];
    else if (arg == "--threads" && i + 1 < argc)
      options.threads = std::max(1, std::stoi(argv[++i]));
    else if (arg == "--seconds" && i + 1 < argc)
      options.seconds = std::stod(argv[++i]);
    else if (arg == "--json")
      options.json = true;
    else
      options.filter = arg;
  }
  run_tables();
}
