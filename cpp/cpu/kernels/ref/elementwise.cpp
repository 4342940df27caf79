// Activations, sums, and changes of layout and of number format.
#include <cmath>
#include <cstring>

#include "cpu/kernels/ref/ref.h"

namespace nd::cpu::ref {

double activate_one(double x, Activation f) {
  switch (f) {
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::gelu:
    case Activation::geglu:  // the activation of its gate
      return 0.5 * x * std::erfc(-x * 0.70710678118654752440);
    case Activation::quick_gelu:
      return x / (1 + std::exp(-1.702 * x));
    case Activation::relu:
      return x < 0 ? 0 : x;
    case Activation::none:
      break;
  }
  return x;
}

void activate(float* x, int64_t count, Activation f) {
  for (int64_t i = 0; i < count; ++i) x[i] = static_cast<float>(activate_one(x[i], f));
}

void add(const float* a, const float* b, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = a[i] + b[i];
}

void planar_to_rows(const float* x, int64_t c, int64_t pixels, float* out) {
  for (int64_t p = 0; p < pixels; ++p)
    for (int64_t j = 0; j < c; ++j) out[p * c + j] = x[j * pixels + p];
}

void rows_to_planar(const float* x, int64_t c, int64_t pixels, float* out) {
  for (int64_t j = 0; j < c; ++j)
    for (int64_t p = 0; p < pixels; ++p) out[j * pixels + p] = x[p * c + j];
}

void half_to_float(const uint16_t* x, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t sign = static_cast<uint32_t>(x[i] & 0x8000) << 16;
    const uint32_t exponent = (x[i] >> 10) & 31, mantissa = x[i] & 1023;
    if (exponent == 0) {  // zero or subnormal: a multiple of 2⁻²⁴
      const float value = static_cast<float>(mantissa) * 0x1p-24f;
      out[i] = sign ? -value : value;
      continue;
    }
    // Infinity and NaN keep an all-ones exponent; a signaling NaN becomes quiet, as in hardware.
    const uint32_t quiet = exponent == 31 && mantissa ? 1u << 22 : 0;
    const uint32_t bits = sign | (exponent == 31 ? 255u : exponent + 112) << 23 | mantissa << 13 | quiet;
    std::memcpy(out + i, &bits, sizeof bits);
  }
}

void bfloat16_to_float(const uint16_t* x, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = static_cast<uint32_t>(x[i]) << 16;
    std::memcpy(out + i, &bits, sizeof bits);
  }
}

void add_scaled_rows(const float* scale, const float* rows, int64_t count, int64_t length, float* out) {
  for (int64_t j = 0; j < length; ++j) {
    double sum = out[j];
    for (int64_t i = 0; i < count; ++i) sum += static_cast<double>(scale[i]) * rows[i * length + j];
    out[j] = static_cast<float>(sum);
  }
}

}  // namespace nd::cpu::ref
