// The activation functions on vectors, and on rows of channels.
namespace nd::cpu::ND_ISA {
namespace {

template <class V>
inline V silu(V x) {
  return div(x, add(set1(1.0f), exp(sub(zero(), x))));
}

template <class V>
inline V quick_gelu(V x) {
  return div(x, add(set1(1.0f), exp(mul(set1(-1.702f), x))));
}

/// For GEGLU this is the activation of the gate.
template <Activation F, class V>
inline V activated(V x) {
  if (F == Activation::silu) return silu(x);
  if (F == Activation::gelu || F == Activation::geglu) return gelu(x);
  if (F == Activation::quick_gelu) return quick_gelu(x);
  if (F == Activation::relu) return max(zero(), x);  // in this order a NaN stays NaN
  return x;
}

/// N vectors of affine_row(), from channel j on.
template <bool Affine, Activation F, int N>
inline void affine_vectors(const float* x, const float* scale, const float* shift, int64_t j, float* out) {
  Vecs<N> value = Vecs<N>::load(x + j);
  if (Affine) value = fma(value, Vecs<N>::load(scale + j), Vecs<N>::load(shift + j));
  store(out + j, activated<F>(value));
}

/// F(x·scale + shift) of `count` channels; scale and shift are not read unless Affine. out may be x.
template <bool Affine, Activation F>
inline void affine_row(const float* x, const float* scale, const float* shift, int64_t count, float* out) {
  const int64_t most = whole_vectors<kAtOnce>(count), whole = whole_vectors(count);
  int64_t j = 0;
  for (; j < most; j += kAtOnce * kLanes) affine_vectors<Affine, F, kAtOnce>(x, scale, shift, j, out);
  if (kAtOnce > 1)
    for (; j < whole; j += kLanes) affine_vectors<Affine, F, 1>(x, scale, shift, j, out);
  if (j == count) return;
  Vec value = load_n(x + j, count - j);
  if (Affine) value = fma(value, load_n(scale + j, count - j), load_n(shift + j, count - j));
  store_n(out + j, activated<F>(value), count - j);
}

}  // namespace
}  // namespace nd::cpu::ND_ISA
