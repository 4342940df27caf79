// C = epilogue(A·Bᵀ) in float32, one output at a time.
#include "cpu/kernels/ref/multiply.h"

namespace nd::cpu::ref {

namespace {

/// Row i of A times slot `slot` of a panel.
double dot(const GemmArgs& args, int64_t i, const float* panel, int64_t slot) {
  const GemmLhs& a = args.lhs;
  const float* row = a.data + (a.row_offset ? a.row_offset[i] : i * a.ld);
  double sum = 0;
  const float* weight = panel + slot;
  for (int64_t r = 0; r < a.run_count; ++r)
    for (int64_t k = 0; k < a.runs[r].length; ++k, weight += kPanelColumns)
      sum += static_cast<double>(row[a.runs[r].offset + k]) * *weight;
  return sum;
}

}  // namespace

void pack_panel(const float* const* rows, int64_t count, int64_t k, float* panel) {
  for (int64_t i = 0; i < k; ++i)
    for (int64_t j = 0; j < kPanelColumns; ++j) panel[i * kPanelColumns + j] = j < count ? rows[j][i] : 0.0f;
}

void gemm(const GemmArgs& args, int64_t m0, int64_t m1, int64_t p0, int64_t p1) {
  multiply(args.epilogue, args.n, m0, m1, p0, p1, [&](int64_t i, int64_t p, int64_t slot) {
    return dot(args, i, args.rhs.panels + p * args.k * kPanelColumns, slot);
  });
}

}  // namespace nd::cpu::ref
