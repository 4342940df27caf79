// The plain loops of every matrix product: each output from one dot product, then the epilogue.
#pragma once
#include <algorithm>

#include "cpu/kernels/ref/ref.h"

namespace nd::cpu::ref {

/// dot(i, panel, slot) is row i of A times the weights in slot `slot` of panel `panel`.
template <class Dot>
void multiply(const GemmArgs& args, int64_t m0, int64_t m1, int64_t p0, int64_t p1, const Dot& dot) {
  const bool geglu = args.activation == Activation::geglu;
  for (int64_t i = m0; i < m1; ++i) {
    float* out = args.c + (args.c_offset ? args.c_offset[i] : i * args.ldc);
    const float* residual =
        args.residual ? args.residual + (args.residual_offset ? args.residual_offset[i] : i * args.ldr)
                      : nullptr;
    const float* image_bias =
        args.image_bias ? args.image_bias + i / args.rows_per_image * args.image_bias_stride : nullptr;
    for (int64_t p = p0; p < p1; ++p) {
      const int64_t first = p * kPanelColumns;
      const int64_t width = std::min(kPanelColumns, args.n - first);
      const int64_t outputs = geglu ? width / 2 : width;
      for (int64_t slot = 0; slot < outputs; ++slot) {
        const int64_t j = geglu ? first / 2 + slot : first + slot;  // column of c
        double x = dot(i, p, slot);
        if (args.bias) x += args.bias[first + slot];
        if (image_bias) x += image_bias[j];
        if (geglu) {
          double gate = dot(i, p, outputs + slot);
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

}  // namespace nd::cpu::ref
