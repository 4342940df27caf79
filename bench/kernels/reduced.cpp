// Products in reduced precision (int8, int16 and bfloat16 matrices, attention in bfloat16) against the peaks
// of their dot products.
#include <algorithm>
#include <vector>

#include "cpu/kernels/reduced_gemm.h"
#include "cpu/layers/product.h"
#include "peak.h"
#include "timing.h"

namespace nd::cpu::bench {

namespace {

void product(const Kernels& table, const char* kind, const ReducedGemm& reduced, const cases::Gemm& c,
             double peak) {
  const std::string name = std::string("gemm-") + kind + " " + c.layer + " " + std::to_string(c.m) + "x" +
                           std::to_string(c.n) + "x" + std::to_string(c.k);
  if (!wanted(name)) return;
  // As a convolution over a band.
  const int64_t taps = c.runs == 1 ? 1 : 3, width = 66;
  const Inner inner{c.runs, taps, c.k / (taps * c.runs)};
  const PixelFormat format(&reduced, inner.channels);
  const std::vector<KGroup> groups = format.window_groups(inner, width);
  const int64_t count = static_cast<int64_t>(groups.size()), k = inner.taps_y * inner.taps_x * format.padded;

  const bool geglu = c.activation == Activation::geglu;
  const int64_t columns = geglu ? c.n / 2 : c.n, panels = (c.n + table.nr - 1) / table.nr;
  const int64_t pixels = c.m + (c.runs - 1) * width + taps;
  Buffer floats(pixels * inner.channels), weights(table.nr * k), a(pixels * format.bytes() / 4 + 16),
      scales(pixels * format.groups() * 2), out(c.m * columns), bias(c.n + 64), residual(c.m * columns);
  const int64_t panel_bytes = reduced.panel_bytes(groups.data(), count);
  Buffer b(panels * panel_bytes / 4);
  std::vector<const float*> rows;
  for (int64_t i = 0; i < table.nr; ++i) rows.push_back(weights.get() + i * k);
  for (int64_t p = 0; p < panels; ++p)
    reduced.pack_panel(rows.data(), std::min(table.nr, c.n - p * table.nr), groups.data(), count,
                       b.bytes() + p * panel_bytes);
  reduced.convert_rows(floats.get(), pixels, inner.channels, nullptr, nullptr, false, format.padded,
                       format.group, a.get(), scales.get());

  ReducedGemmArgs args;
  args.m = c.m;
  args.n = c.n;
  args.groups = groups.data();
  args.group_count = count;
  args.lhs = {a.get(), nullptr, format.padded, scales.get(), format.groups()};
  args.rhs = {b.bytes(), panel_bytes};
  args.epilogue.c = out.get();
  args.epilogue.ldc = args.epilogue.ldr = columns;
  args.epilogue.bias = bias.get();
  if (!geglu) args.epilogue.residual = residual.get();
  args.epilogue.activation = c.activation;
  const ProductTasks tasks({c.m, panels, panel_bytes, format.bytes(), true, false});
  const double time = best_time(tasks.count(), [&](int64_t i, int) {
    const ProductTasks::Task task = tasks[i];
    reduced.gemm(args, task.first, task.end, task.panel, task.panel + 1);
  });
  print(table.name, name, time, 2.0 * static_cast<double>(c.m * c.n * c.k), peak);
}

void conversion(const Kernels& table, const char* kind, const ReducedGemm& reduced, bool normalize) {
  const std::string name = std::string("convert-") + kind + (normalize ? " affine silu" : "") + " 4096x320";
  if (!wanted(name)) return;
  const int64_t rows = 4096, c = 320;
  const PixelFormat format(&reduced, c);
  Buffer x(rows * c), scale(c), shift(c), out(rows * c), scales(rows * 2 * format.groups());
  const double time = best_time(16, [&](int64_t i, int) {
    const int64_t first = i * rows / 16;
    reduced.convert_rows(x.get() + first * c, rows / 16, c, normalize ? scale.get() : nullptr,
                         normalize ? shift.get() : nullptr, normalize, c, format.group,
                         out.bytes() + first * c * reduced.element_bytes,
                         scales.get() + first * 2 * format.groups());
  });
  print_bandwidth(table.name, name, time, static_cast<double>(rows * c * (4 + reduced.element_bytes)));
}

}  // namespace

void attention(const std::string& table, const std::string& kind, const AttentionKernel& kernel,
               const cases::Attention& c, double peak) {
  const std::string name = kind + " " + c.layer + " " + std::to_string(c.q_len) + "x" +
                           std::to_string(c.k_len) + "x" + std::to_string(c.head_dim) + " heads " +
                           std::to_string(c.heads);
  if (!wanted(name)) return;
  const int64_t stride = c.heads * c.head_dim;
  Buffer q(c.q_len * stride), k(c.k_len * stride), v(c.k_len * stride), out(c.q_len * stride);
  AttentionArgs args;
  args.q = q.get();
  args.k = k.get();
  args.v = v.get();
  args.out = out.get();
  args.ldq = args.ldk = args.ldv = args.ldo = stride;
  args.heads = c.heads;
  args.head_dim = c.head_dim;
  args.q_len = c.q_len;
  args.k_len = c.k_len;
  args.scale = 1.0f;
  args.causal = c.causal;
  const int64_t packed_floats = (kernel.packed_floats(args) + 15) / 16 * 16;
  const int64_t scratch_floats = (kernel.scratch_floats(args) + 15) / 16 * 16;
  Buffer packed(packed_floats * c.heads), scratch(scratch_floats * options.threads);
  for (int64_t head = 0; head < c.heads; ++head)
    kernel.pack(args, 0, head, packed.get() + head * packed_floats);
  const int64_t rows = 64, chunks = (c.q_len + rows - 1) / rows;
  const double time = best_time(c.heads * chunks, [&](int64_t i, int thread) {
    const int64_t head = i / chunks, q0 = i % chunks * rows;
    kernel.run(args, 0, head, q0, std::min(q0 + rows, c.q_len), packed.get() + head * packed_floats,
               scratch.get() + thread * scratch_floats);
  });
  const double packing = best_time(
      c.heads, [&](int64_t head, int) { kernel.pack(args, 0, head, packed.get() + head * packed_floats); });
  // Operations of both products, of which a causal mask leaves half.
  print(table, name, time + packing, 4.0 * c.q_len * c.k_len * c.head_dim * c.heads * (c.causal ? 0.5 : 1.0),
        peak);
}

void reduced_products(const Kernels& table) {
  if (table.i8) {
    const double peak = measure_peak([&](int64_t rounds) { return dot_i8(table.name, rounds); });
    print_peak(table.name, "int8", peak);
    for (const auto& c : cases::kGemms) product(table, "i8", *table.i8, c, peak);
    conversion(table, "i8", *table.i8, false);
    conversion(table, "i8", *table.i8, true);
  }
  const double peak =
      table.bf16 ? measure_peak([&](int64_t rounds) { return dot_bf16(table.name, rounds); }) : 0;
  if (table.bf16) {
    print_peak(table.name, "bf16", peak);
    for (const auto& c : cases::kGemms) product(table, "bf16", *table.bf16, c, peak);
    conversion(table, "bf16", *table.bf16, false);
    conversion(table, "bf16", *table.bf16, true);
  }
  if (table.i16) {
    // As fast as bfloat16, if the CPU has both.
    for (const auto& c : cases::kGemms) product(table, "i16", *table.i16, c, peak);
    conversion(table, "i16", *table.i16, false);
    conversion(table, "i16", *table.i16, true);
  }
  if (table.bf16_attention)
    for (const auto& c : cases::kAttentions)
      attention(table.name, "attention-bf16", *table.bf16_attention, c, peak);
}

}  // namespace nd::cpu::bench
