// The activation functions on vectors.
namespace nd::cpu::ND_ISA {
namespace {

inline Vec silu(Vec x) {
  return div(x, add(set1(1.0f), exp(sub(zero(), x))));
}

inline Vec quick_gelu(Vec x) {
  return div(x, add(set1(1.0f), exp(mul(set1(-1.702f), x))));
}

/// For GEGLU this is the activation of the gate.
template <Activation F>
inline Vec activated(Vec x) {
  if (F == Activation::silu) return silu(x);
  if (F == Activation::gelu || F == Activation::geglu) return gelu(x);
  if (F == Activation::quick_gelu) return quick_gelu(x);
  if (F == Activation::relu) return max(zero(), x);  // in this order a NaN stays NaN
  return x;
}

}  // namespace
}  // namespace nd::cpu::ND_ISA
