// exp and the activations on vectors. Polynomials are our own minimax fits (iteratively reweighted least
// squares).

constexpr int kTileRows = 6;             // rows of activations in a register tile
constexpr int kNr = kTileVecs * kLanes;  // columns in a weight panel
constexpr float kLog2E = 1.44269502f,
                kLog2ELow = 1.92596299e-8f;  // their sum is log₂e to double the precision
constexpr float kSmallest = -126.0f;         // below 2⁻¹²⁶ results are zero: no subnormal numbers

/// 2ᵗ for t ≤ 128, t = n + f with n whole and |f| ≤ ½; relative error 1.5e-7, exact for f = 0.
inline Vec exp2_split(Vec n, Vec f, Vec t) {
  Vec p = fma(set1(0.00132647268f), f, set1(0.00967151292f));
  p = fma(p, f, set1(0.0555073375f));
  p = fma(p, f, set1(0.240222421f));
  p = fma(p, f, set1(0.693146978f));
  p = fma(p, f, set1(1.0f));
  return scale2(p, n, t, set1(kSmallest));
}

/// 2ᵗ for t ≤ 0.
inline Vec exp2_negative(Vec t) {
  const Vec n = round(t);
  return exp2_split(n, sub(t, n), t);
}

/// eˣ; infinity from x = 88.4 on.
inline Vec exp(Vec x) {
  x = min(set1(88.7228394f), x);
  const Vec t = mul(x, set1(kLog2E)), n = round(t);
  // The product's rounding error would cost 2⁻²⁴·|t| of relative precision: reduce with the exact product
  // instead.
  const Vec f = fma(x, set1(kLog2ELow), fma(x, set1(kLog2E), sub(zero(), n)));
  return exp2_split(n, f, t);
}

inline Vec silu(Vec x) {
  return div(x, add(set1(1.0f), exp(sub(zero(), x))));
}
inline Vec quick_gelu(Vec x) {
  return div(x, add(set1(1.0f), exp(mul(set1(-1.702f), x))));
}

#ifdef ND_GELU_PIECES
#include "cpu/kernels/simd/gelu_avx512.inc.h"
#else
/// x·Φ(x) = max(x, 0) − |x|·Φ(−|x|), where log₂Φ(−a) is a polynomial on [0, 5.75] fitted so that the
/// product's absolute error is least: 5e-8. Beyond, the product is below 3e-8.
inline Vec gelu(Vec x) {
  const Vec a = min(set1(5.75f), abs(x));
  Vec q = fma(set1(3.15201378e-6f), a, set1(2.93458407e-7f));
  q = fma(q, a, set1(-0.000635928801f));
  q = fma(q, a, set1(0.00781070616f));
  q = fma(q, a, set1(-0.0531238061f));
  q = fma(q, a, set1(-0.458928351f));
  q = fma(q, a, set1(-1.15116292f));
  q = fma(q, a, set1(-0.999996126f));
  return fnma(a, exp2_negative(q), max(zero(), x));
}
#endif

template <Activation F>
inline Vec activated(Vec x) {
  if (F == Activation::silu) return silu(x);
  if (F == Activation::gelu || F == Activation::geglu) return gelu(x);
  if (F == Activation::quick_gelu) return quick_gelu(x);
  if (F == Activation::relu) return max(zero(), x);  // in this order NaN stays NaN
  return x;
}
