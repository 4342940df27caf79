// The loops of every reference product: one dot product for each output, then the epilogue.
#pragma once
#include <algorithm>

#include "cpu/kernels/ref/ref.h"

namespace nd::cpu::ref {

/// dot(i, panel, slot) is row i of A times the weights in slot `slot` of panel `panel`; n as in GemmArgs.
template <class Dot>
void multiply(const GemmEpilogue& epilogue, int64_t n, int64_t m0, int64_t m1, int64_t p0, int64_t p1,
              const Dot& dot) {
  const GemmEpilogue& e = epilogue;
  const bool geglu = e.activation == Activation::geglu;
  for (int64_t i = m0; i < m1; ++i) {
    float* out = e.c + (e.c_offset ? e.c_offset[i] : i * e.ldc);
    const float* residual =
        e.residual ? e.residual + (e.residual_offset ? e.residual_offset[i] : i * e.ldr) : nullptr;
    const float* image_bias =
        e.image_bias ? e.image_bias + i / e.rows_per_image * e.image_bias_stride : nullptr;
    for (int64_t p = p0; p < p1; ++p) {
      const int64_t first = p * kPanelColumns;
      const int64_t width = std::min(kPanelColumns, n - first);
      const int64_t outputs = geglu ? width / 2 : width;
      for (int64_t slot = 0; slot < outputs; ++slot) {
        const int64_t j = geglu ? first / 2 + slot : first + slot;  // column of c
        double x = dot(i, p, slot);
        if (e.bias) x += e.bias[first + slot];
        if (image_bias) x += image_bias[j];
        if (geglu) {
          double gate = dot(i, p, outputs + slot);
          if (e.bias) gate += e.bias[first + outputs + slot];
          x *= activate_one(gate, Activation::gelu);
        } else {
          x = activate_one(x, e.activation);
        }
        x *= e.scale;
        if (residual) x += residual[j];
        out[j] = static_cast<float>(x);
      }
    }
  }
}

}  // namespace nd::cpu::ref
