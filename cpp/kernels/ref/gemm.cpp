// C = epilogue(A·Bᵀ), one output at a time.
#include <algorithm>

#include "kernels/ref/ref.h"

namespace nd::ref {

namespace {

/// Row i of A times slot `slot` of a panel.
double dot(const GemmArgs& args, int64_t i, const float* panel, int64_t slot) {
  const float* row = args.a + (args.row_offset ? args.row_offset[i] : i * args.lda);
  double sum = 0;
  const float* weight = panel + slot;
  for (int64_t r = 0; r < args.run_count; ++r)
    for (int64_t k = 0; k < args.runs[r].length; ++k, weight += kPanelColumns)
      sum += static_cast<double>(row[args.runs[r].offset + k]) * *weight;
  return sum;
}

}  // namespace

void pack_panel(const float* const* rows, int64_t count, int64_t k, float* panel) {
  for (int64_t i = 0; i < k; ++i)
    for (int64_t j = 0; j < kPanelColumns; ++j) panel[i * kPanelColumns + j] = j < count ? rows[j][i] : 0.0f;
}

void gemm(const GemmArgs& args, int64_t m0, int64_t m1, int64_t p0, int64_t p1) {
  const bool geglu = args.activation == Activation::geglu;
  for (int64_t i = m0; i < m1; ++i) {
    float* out = args.c + (args.c_offset ? args.c_offset[i] : i * args.ldc);
    const float* residual =
        args.residual ? args.residual + (args.residual_offset ? args.residual_offset[i] : i * args.ldr)
                      : nullptr;
    const float* image_bias =
        args.image_bias ? args.image_bias + i / args.rows_per_image * args.image_bias_stride : nullptr;
    for (int64_t p = p0; p < p1; ++p) {
      const float* panel = args.b + p * args.k * kPanelColumns;
      const int64_t first = p * kPanelColumns;
      const int64_t width = std::min(kPanelColumns, args.n - first);
      const int64_t outputs = geglu ? width / 2 : width;
      for (int64_t slot = 0; slot < outputs; ++slot) {
        const int64_t j = geglu ? first / 2 + slot : first + slot;  // column of c
        double x = dot(args, i, panel, slot);
        if (args.bias) x += args.bias[first + slot];
        if (image_bias) x += image_bias[j];
        if (geglu) {
          double gate = dot(args, i, panel, outputs + slot);
          if (args.bias) gate += args.bias[first + outputs + slot];
          x *= activate_one(gate, Activation::gelu);
        } else {
          x = activate_one(x, args.activation);
        }
        x *= args.scale;
        if (residual) x += residual[j];
        out[j] = static_cast<float>(x);
      }
    }
  }
}

}  // namespace nd::ref
