// The transforms of Winograd's F(2×2, 3×3) before and after its sixteen products. They only add.
namespace nd::cpu::ND_ISA {
namespace {

/// Replaces d by Bᵀd.
inline void winograd_bt(Vec (&d)[4]) {
  const Vec t1 = d[1], t2 = d[2];
  d[0] = sub(d[0], t2);
  d[1] = add(t1, t2);
  d[2] = sub(t2, t1);
  d[3] = sub(t1, d[3]);
}

/// BᵀdB of a 4×4 tile, for one vector of channels of which n exist; put(position, vector) receives the
/// sixteen results.
template <class Put>
inline void winograd_input_tile(const float* x, int64_t pixel, int64_t row, int64_t n, const Put& put) {
  Vec d[4][4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j)
      d[i][j] = n >= kLanes ? load(x + i * row + j * pixel) : load_n(x + i * row + j * pixel, n);
    winograd_bt(d[i]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    Vec column[4] = {d[0][j], d[1][j], d[2][j], d[3][j]};
    winograd_bt(column);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) put(i * 4 + j, column[i]);
  }
}

void winograd_input(const float* x, const int64_t* offset, int64_t tiles, int64_t c, int64_t row,
                    int64_t padded, void* out) {
  ND_ASSERT(x && offset && out && padded >= c && c > 0);
  float* to = static_cast<float*>(out);
  for (int64_t t = 0; t < tiles; ++t)
    for (int64_t j = 0; j < c; j += kLanes) {
      const int64_t n = min(kLanes, c - j);
      float* at = to + t * padded + j;
      winograd_input_tile(x + offset[t] + j, c, row, n, [&](int64_t position, Vec v) {
        float* p = at + position * tiles * padded;
        if (n == kLanes)
          store(p, v);
        else
          store_n(p, v, n);
      });
    }
}

void winograd_output(const WinogradOutput& args) {
  ND_ASSERT(args.products && args.offset && args.valid && args.c);
  ND_ASSERT(args.columns <= args.ld);
  for (int64_t t = 0; t < args.tiles; ++t)
    for (int64_t j = 0; j < args.columns; j += kLanes) {
      const int64_t n = min(kLanes, args.columns - j);
      const float* product = args.products + t * args.ld + j;
      Vec bias = args.bias ? load_n(args.bias + j, n) : zero();
      if (args.image_bias) bias = add(bias, load_n(args.image_bias + j, n));
      Vec half[2][4];  // AᵀM
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        Vec m[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) m[i] = load_n(product + (i * 4 + k) * args.tiles * args.ld, n);
        half[0][k] = add(add(m[0], m[1]), m[2]);
        half[1][k] = sub(sub(m[1], m[2]), m[3]);
      }
#pragma GCC unroll 2
      for (int y = 0; y < 2; ++y) {
        const Vec* h = half[y];
        const Vec pair[2] = {add(add(h[0], h[1]), h[2]), sub(sub(h[1], h[2]), h[3])};
#pragma GCC unroll 2
        for (int x = 0; x < 2; ++x) {
          if (!(args.valid[t] >> (y * 2 + x) & 1)) continue;
          const int64_t at = args.offset[t] + y * args.row + x * args.pixel + j;
          Vec v = add(pair[x], bias);
          if (args.residual) v = add(v, load_n(args.residual + at, n));
          if (args.relu) v = activated<Activation::relu>(v);
          if (n == kLanes)
            store(args.c + at, v);
          else
            store_n(args.c + at, v, n);
        }
      }
    }
}

}  // namespace
}  // namespace nd::cpu::ND_ISA
