// The exponential function on vectors. The polynomials are our own minimax fits (iteratively reweighted least
// squares).
namespace nd::cpu::ND_ISA {
namespace {

// Their sum is log₂e to double the precision of one float.
constexpr float kLog2E = 1.44269502f, kLog2ELow = 1.92596299e-8f;
constexpr float kMinExponent = -126.0f;  // 2ᵗ is zero below it: no subnormal results

/// 2ᵗ for t ≤ 128, where t = n + f with n whole and |f| ≤ ½. Relative error 1.5e-7, exact for f = 0.
inline Vec exp2_split(Vec n, Vec f, Vec t) {
  Vec p = fma(set1(0.00132647268f), f, set1(0.00967151292f));
  p = fma(p, f, set1(0.0555073375f));
  p = fma(p, f, set1(0.240222421f));
  p = fma(p, f, set1(0.693146978f));
  p = fma(p, f, set1(1.0f));
  return scale2(p, n, t, set1(kMinExponent));
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
  // t is rounded, which would cost 2⁻²⁴·|t| of relative precision: f is reduced from the exact product
  // instead.
  const Vec f = fma(x, set1(kLog2ELow), fma(x, set1(kLog2E), sub(zero(), n)));
  return exp2_split(n, f, t);
}

}  // namespace
}  // namespace nd::cpu::ND_ISA
