// GELU by one polynomial, for instruction sets whose registers cannot hold gelu_avx512.inc.h's table.
namespace nd::cpu::ND_ISA {
namespace {

constexpr float kGelu[] = {3.15201378e-6f, 2.93458407e-7f, -0.000635928801f, 0.00781070616f,
                           -0.0531238061f, -0.458928351f,  -1.15116292f,     -0.999996126f};

/// x·Φ(x) = max(x, 0) − |x|·Φ(−|x|), where log₂Φ(−a) is a polynomial on [0, 5.75], fitted to the smallest
/// absolute error of the product: 5e-8. Beyond 5.75 the product is below 3e-8.
template <class V>
inline V gelu(V x) {
  const V a = min(set1(5.75f), abs(x));
  return fnma(a, exp2_negative(polynomial(kGelu, a)), max(zero(), x));
}

}  // namespace
}  // namespace nd::cpu::ND_ISA
