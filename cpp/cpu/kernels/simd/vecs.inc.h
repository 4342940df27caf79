// Several vectors at once. Their chains of operations hide one another's latency, and a coefficient that is
// read from memory serves all of them.
namespace nd::cpu::ND_ISA {
namespace {

/// N vectors. Every operation on Vec that has a counterpart here takes place in each of them; an operand may
/// also be one Vec for all.
template <int N>
struct Vecs {
  Vec v[N];

  Vecs() = default;
  Vecs(Vec x) : Vecs(each([&](int) { return x; })) {}

  /// The vectors f(0) … f(N − 1).
  template <class F>
  static Vecs each(const F& f) {
    Vecs r;
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) r.v[i] = f(i);
    return r;
  }
  static Vecs load(const float* p) {
    return each([&](int i) { return ND_ISA::load(p + i * kLanes); });
  }

  friend Vecs add(const Vecs& a, const Vecs& b) {
    return each([&](int i) { return add(a.v[i], b.v[i]); });
  }
  friend Vecs sub(const Vecs& a, const Vecs& b) {
    return each([&](int i) { return sub(a.v[i], b.v[i]); });
  }
  friend Vecs mul(const Vecs& a, const Vecs& b) {
    return each([&](int i) { return mul(a.v[i], b.v[i]); });
  }
  friend Vecs div(const Vecs& a, const Vecs& b) {
    return each([&](int i) { return div(a.v[i], b.v[i]); });
  }
  friend Vecs fma(const Vecs& a, const Vecs& b, const Vecs& c) {
    return each([&](int i) { return fma(a.v[i], b.v[i], c.v[i]); });
  }
  friend Vecs fnma(const Vecs& a, const Vecs& b, const Vecs& c) {
    return each([&](int i) { return fnma(a.v[i], b.v[i], c.v[i]); });
  }
  friend Vecs max(const Vecs& a, const Vecs& b) {
    return each([&](int i) { return max(a.v[i], b.v[i]); });
  }
  friend Vecs min(const Vecs& a, const Vecs& b) {
    return each([&](int i) { return min(a.v[i], b.v[i]); });
  }
  friend Vecs abs(const Vecs& a) {
    return each([&](int i) { return abs(a.v[i]); });
  }
  friend Vecs round(const Vecs& a) {
    return each([&](int i) { return round(a.v[i]); });
  }
  friend Vecs scale2(const Vecs& p, const Vecs& n, const Vecs& t, Vec limit) {
    return each([&](int i) { return scale2(p.v[i], n.v[i], t.v[i], limit); });
  }
  friend void store(float* p, const Vecs& x) {
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) store(p + i * kLanes, x.v[i]);
  }
};

/// The polynomial of x whose coefficients begin with that of the highest power.
template <int Count>
inline Vec polynomial(const float (&coefficients)[Count], Vec x) {
  Vec p = fma(set1(coefficients[0]), x, set1(coefficients[1]));
#pragma GCC unroll 8
  for (int i = 2; i < Count; ++i) p = fma(p, x, set1(coefficients[i]));
  return p;
}
template <int Count, int N>
inline Vecs<N> polynomial(const float (&coefficients)[Count], const Vecs<N>& x) {
  const float* c = in_memory(coefficients);
  Vecs<N> p = fma(set1(c[0]), x, set1(c[1]));
#pragma GCC unroll 8
  for (int i = 2; i < Count; ++i) p = fma(p, x, set1(c[i]));
  return p;
}

}  // namespace
}  // namespace nd::cpu::ND_ISA
