// GELU by one polynomial, for instruction sets whose registers cannot hold gelu_avx512.inc.h's table.
namespace nd::cpu::ND_ISA {
namespace {

/// x·Φ(x) = max(x, 0) − |x|·Φ(−|x|), where log₂Φ(−a) is a polynomial on [0, 5.75], fitted to the smallest
/// absolute error of the product: 5e-8. Beyond 5.75 the product is below 3e-8.
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

}  // namespace
}  // namespace nd::cpu::ND_ISA
