// The two halves of group normalization (moments, then an affine map of each channel) and layer
// normalization.
#include <cmath>

#include "cpu/kernels/ref/ref.h"

namespace nd::cpu::ref {

void channel_moments(const float* x, int64_t rows, int64_t c, float* mean, float* m2) {
  for (int64_t j = 0; j < c; ++j) {
    const double shift = x[j];
    double sum = 0, squares = 0;
    for (int64_t r = 0; r < rows; ++r) {
      const double value = x[r * c + j] - shift;
      sum += value;
      squares += value * value;
    }
    mean[j] = static_cast<float>(shift + sum / rows);
    m2[j] = static_cast<float>(squares - sum * sum / rows);
  }
}

void affine_rows(const float* x, int64_t rows, int64_t c, const float* scale, const float* shift, bool silu,
                 float* out) {
  for (int64_t i = 0; i < rows * c; ++i) {
    double value = x[i];
    if (scale) value = value * scale[i % c] + shift[i % c];
    out[i] = static_cast<float>(activate_one(value, silu ? Activation::silu : Activation::none));
  }
}

void layer_norm(const float* x, int64_t rows, int64_t c, const float* gamma, const float* beta, float eps,
                float* out) {
  for (int64_t r = 0; r < rows; ++r, x += c, out += c) {
    double sum = 0, squares = 0;
    for (int64_t j = 0; j < c; ++j) sum += x[j];
    const double mean = sum / c;
    for (int64_t j = 0; j < c; ++j) squares += (x[j] - mean) * (x[j] - mean);
    const double inverse = 1.0 / std::sqrt(squares / c + eps);
    for (int64_t j = 0; j < c; ++j) out[j] = static_cast<float>((x[j] - mean) * inverse * gamma[j] + beta[j]);
  }
}

}  // namespace nd::cpu::ref
