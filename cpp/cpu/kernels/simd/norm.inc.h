// Group and layer normalization over rows of channels.
namespace nd::cpu::ND_ISA {
namespace {

constexpr int64_t kMomentRows = 64;               // rows of a block; blocks are merged
constexpr int kMomentVecs = kLanes == 8 ? 4 : 8;  // sums, squares and shifts of a block fit in registers

/// Merges the moments of a block of n rows (mean = shift + s/n, Σ(x−mean)² = q − s²/n) into those of `before`
/// rows (Chan et al. 1979). Means are relative to the first row: with a large common offset, the difference
/// of two means would suffer from cancellation.
inline void merge_moments(Vec shift, Vec s, Vec q, float before, float n, Vec& mean, Vec& m2) {
  const Vec offset = mul(s, set1(1.0f / n));
  const Vec block_mean = add(shift, offset), block_m2 = max(zero(), fnma(s, offset, q));
  const Vec delta = sub(block_mean, mean);
  mean = fma(delta, set1(n / (before + n)), mean);
  m2 = add(m2, fma(mul(delta, delta), set1(before / (before + n) * n), block_m2));
}

/// Merges rows [r0, r1), at most kMomentRows of `rows`, into mean and m2 of N vectors of channels. If
/// Partial, N is 1 and the vector has `last` channels.
template <int N, bool Partial>
inline void moments_block(const float* x, int64_t r0, int64_t r1, int64_t rows, int64_t c, int64_t last,
                          float* mean, float* m2) {
  Vec shift[N], s[N], q[N];
  for (int v = 0; v < N; ++v) {
    shift[v] = load_some<Partial>(x + r0 * c + v * kLanes, last);
    s[v] = q[v] = zero();
  }
  for (int64_t r = r0 + 1; r < r1; ++r) {
    const float* row = x + r * c;
    for (int v = 0; v < N; ++v) {
      const Vec value = sub(load_some<Partial>(row + v * kLanes, last), shift[v]);
      s[v] = add(s[v], value);
      q[v] = fma(value, value, q[v]);
    }
  }
  for (int v = 0; v < N; ++v) {
    float* mean_v = mean + v * kLanes;
    float* m2_v = m2 + v * kLanes;
    const Vec origin = load_some<Partial>(x + v * kLanes, last);
    Vec a = r0 ? load_some<Partial>(mean_v, last) : zero(), b = r0 ? load_some<Partial>(m2_v, last) : zero();
    merge_moments(sub(shift[v], origin), s[v], q[v], static_cast<float>(r0), static_cast<float>(r1 - r0), a,
                  b);
    if (r1 == rows) a = add(a, origin);
    store_some<Partial>(mean_v, a, last);
    store_some<Partial>(m2_v, b, last);
  }
}

void channel_moments(const float* x, int64_t rows, int64_t c, float* mean, float* m2) {
  ND_ASSERT(x && mean && m2 && rows > 0 && c > 0);
  constexpr int64_t group = kMomentVecs * kLanes;
  for (int64_t r0 = 0; r0 < rows; r0 += kMomentRows) {
    const int64_t r1 = min(r0 + kMomentRows, rows);
    int64_t j = 0;
    for (; j + group <= c; j += group)
      moments_block<kMomentVecs, false>(x + j, r0, r1, rows, c, 0, mean + j, m2 + j);
    for (; j + kLanes <= c; j += kLanes) moments_block<1, false>(x + j, r0, r1, rows, c, 0, mean + j, m2 + j);
    if (j < c) moments_block<1, true>(x + j, r0, r1, rows, c, c - j, mean + j, m2 + j);
  }
}

template <bool Affine, Activation F>
void affine_all(const float* x, int64_t rows, int64_t c, const float* scale, const float* shift, float* out) {
  if (!Affine) {  // one long row
    c *= rows;
    rows = 1;
  }
  for (int64_t r = 0; r < rows; ++r, x += c, out += c) affine_row<Affine, F>(x, scale, shift, c, out);
}

void affine_rows(const float* x, int64_t rows, int64_t c, const float* scale, const float* shift, bool silu,
                 float* out) {
  ND_ASSERT(x && out && are_both_or_neither(scale, shift));
  if (scale && silu) return affine_all<true, Activation::silu>(x, rows, c, scale, shift, out);
  if (scale) return affine_all<true, Activation::none>(x, rows, c, scale, shift, out);
  if (silu) return affine_all<false, Activation::silu>(x, rows, c, scale, shift, out);
  return affine_all<false, Activation::none>(x, rows, c, scale, shift, out);
}

void layer_norm(const float* x, int64_t rows, int64_t c, const float* gamma, const float* beta, float eps,
                float* out) {
  ND_ASSERT(x && gamma && beta && out && c > 0);
  const int64_t whole = whole_vectors(c), rest = c - whole;
  for (int64_t r = 0; r < rows; ++r, x += c, out += c) {
    Vec total = rest ? load_n(x + whole, rest) : zero();
    for (int64_t j = 0; j < whole; j += kLanes) total = add(total, load(x + j));
    const float mean = sum(total) / static_cast<float>(c);

    Vec squares = zero();
    for (int64_t j = 0; j < whole; j += kLanes) {
      const Vec d = sub(load(x + j), set1(mean));
      squares = fma(d, d, squares);
    }
    float tail = 0;  // scalar, because lanes beyond c must be excluded
    for (int64_t j = whole; j < c; ++j) tail = __builtin_fmaf(x[j] - mean, x[j] - mean, tail);
    const float variance = (sum(squares) + tail) / static_cast<float>(c);
    const float inverse = 1.0f / __builtin_sqrtf(variance + eps);

    for (int64_t j = 0; j < whole; j += kLanes) {
      const Vec d = mul(sub(load(x + j), set1(mean)), set1(inverse));
      store(out + j, fma(d, load(gamma + j), load(beta + j)));
    }
    if (!rest) continue;
    const Vec d = mul(sub(load_n(x + whole, rest), set1(mean)), set1(inverse));
    store_n(out + whole, fma(d, load_n(gamma + whole, rest), load_n(beta + whole, rest)), rest);
  }
}

}  // namespace
}  // namespace nd::cpu::ND_ISA
