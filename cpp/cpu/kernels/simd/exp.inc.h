// The exponential function on vectors. The polynomials are our own minimax fits (iteratively reweighted least
// squares).
namespace nd::cpu::ND_ISA {
namespace {

// Their sum is log₂e to double the precision of one float.
constexpr float kLog2E = 1.44269502f, kLog2ELow = 1.92596299e-8f;
constexpr float kMinExponent = -126.0f;  // 2ᵗ is zero below it: no subnormal results

constexpr float kExp2[] = {0.00132647268f, 0.00967151292f, 0.0555073375f, 0.240222421f, 0.693146978f, 1.0f};

/// 2ᵗ for t ≤ 128, where t = n + f with n whole and |f| ≤ ½. Relative error 1.5e-7, exact for f = 0.
template <class V>
inline V exp2_split(V n, V f, V t) {
  return scale2(polynomial(kExp2, f), n, t, set1(kMinExponent));
}

/// 2ᵗ for t ≤ 0.
template <class V>
inline V exp2_negative(V t) {
  const V n = round(t);
  return exp2_split(n, sub(t, n), t);
}

/// eˣ; infinity from x = 88.4 on.
template <class V>
inline V exp(V x) {
  x = min(set1(88.7228394f), x);
  const V t = mul(x, set1(kLog2E)), n = round(t);
  // t is rounded, which would cost 2⁻²⁴·|t| of relative precision: f is reduced from the exact product
  // instead.
  const V f = fma(x, set1(kLog2ELow), fma(x, set1(kLog2E), sub(zero(), n)));
  return exp2_split(n, f, t);
}

}  // namespace
}  // namespace nd::cpu::ND_ISA
