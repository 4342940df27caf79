// ldmatrix and mma.sync, with the fragment layouts of the PTX manual.
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <string.h>

#include <algorithm>
#include <memory>
#include <type_traits>

#include "internal.h"

namespace emu {

void load_matrices(void** lanes) {
  const MatrixRows& first = *static_cast<MatrixRows*>(lanes[0]);
  for (int i = 0; i < first.count; ++i) {
    alignas(64) uint16_t m[8][8];
    uint8_t used[8] = {};
    for (int r = 0; r < 8; ++r) {
      const void* row = static_cast<MatrixRows*>(lanes[i % 4 * 8 + r])[i / 4].row;
      if (reinterpret_cast<uintptr_t>(row) % 16)
        return fault("ldmatrix: row is not aligned", first.here, true);
      memcpy(m[r], row, 16);
      ++used[reinterpret_cast<uintptr_t>(row) >> 4 & 7];
    }
    block->counted.ldmatrix_conflicts += static_cast<uint64_t>(*std::max_element(used, used + 8) - 1);
    for (int l = 0; l < 32; ++l) {
      const int row = l / 4, column = l % 4 * 2;
      uint16_t pair[2] = {m[row][column], m[row][column + 1]};
      if (first.transposed) pair[0] = m[column][row], pair[1] = m[column + 1][row];
      memcpy(static_cast<MatrixRows*>(lanes[l])[i / 4].out + i % 4, pair, 4);
    }
  }
  block->counted.ldmatrix += static_cast<uint64_t>(first.count);
}

namespace {

constexpr int kMaxM = 8, kMaxN = 32;

template <Element E>
void widen(const uint8_t* from, int count, float* to) {
  if constexpr (E == Element::f16) {
    for (int i = 0; i < count; i += 8) {
#if defined(__x86_64__)
      _mm256_storeu_ps(to + i,
                       _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 2 * i))));
#else
      Float16 x[8];
      memcpy(x, from + 2 * i, sizeof x);
      for (int j = 0; j < 8; ++j) to[i + j] = static_cast<float>(x[j]);
#endif
    }
  } else if constexpr (E == Element::bf16) {
    for (int i = 0; i < count; ++i) {
      uint16_t x;
      memcpy(&x, from + 2 * i, 2);
      const uint32_t bits = uint32_t{x} << 16;
      memcpy(to + i, &bits, 4);
    }
  } else {
    for (int i = 0; i < count; ++i) to[i] = static_cast<int8_t>(from[i]);
  }
}

/// c[rows][W] = a[rows][K]·b[K][W], where rows of b and c are `stride` apart.
template <int W, int K>
void product(const float* a, const float* b, float* c, int rows, int stride) {
  for (int r = 0; r < rows; r += 4) {
    float sum[4][W] = {};
    for (int k = 0; k < K; ++k)
      for (int i = 0; i < 4; ++i)
        for (int j = 0; j < W; ++j) sum[i][j] += a[(r + i) * K + k] * b[k * stride + j];
    for (int i = 0; i < 4; ++i) memcpy(c + (r + i) * stride, sum[i], sizeof sum[i]);
  }
}

template <int K>
struct alignas(64) Operands {
  uint32_t a[kMaxM * 16][8], b[kMaxN * 8][8];  // 32 bytes of k
  float wide_a[kMaxM * 16 * K], turned[kMaxN * 8 * K], wide_b[K * kMaxN * 8], c[kMaxM * 16 * kMaxN * 8];
};

}  // namespace

template <Element E>
void multiply(void** lanes) {
  using Sum = std::conditional_t<E == Element::s8, int32_t, float>;
  constexpr int K = E == Element::s8 ? 32 : 16;
  std::shared_ptr<void>& kept = block->operands[K == 32];
  if (!kept) kept = std::make_shared<Operands<K>>();
  Operands<K>& s = *static_cast<Operands<K>*>(kept.get());
  const Multiply& first = *static_cast<Multiply*>(lanes[0]);
  const int m = first.m, n = first.n, width = n * 8;
  if (m > kMaxM || n > kMaxN)
    return fault("mma: more tiles than the emulator has room for", {"mma", n}, true);
  for (int l = 0; l < 32; ++l) {
    const Multiply& x = *static_cast<Multiply*>(lanes[l]);
    const int g = l / 4, t = l % 4;
    for (int i = 0; i < m; ++i) {
      s.a[i * 16 + g][t] = x.a[i * 4], s.a[i * 16 + g + 8][t] = x.a[i * 4 + 1];
      s.a[i * 16 + g][t + 4] = x.a[i * 4 + 2], s.a[i * 16 + g + 8][t + 4] = x.a[i * 4 + 3];
    }
    for (int j = 0; j < n; ++j) s.b[j * 8 + g][t] = x.b[j * 2], s.b[j * 8 + g][t + 4] = x.b[j * 2 + 1];
  }
  widen<E>(reinterpret_cast<uint8_t*>(s.a), m * 16 * K, s.wide_a);
  widen<E>(reinterpret_cast<uint8_t*>(s.b), width * K, s.turned);
  for (int j = 0; j < width; ++j)
    for (int k = 0; k < K; ++k) s.wide_b[k * width + j] = s.turned[j * K + k];
  for (int j = 0; j < n;) {
    const int left = n - j, at = j * 8;
    if (left >= 4)
      product<32, K>(s.wide_a, s.wide_b + at, s.c + at, m * 16, width), j += 4;
    else
      product<8, K>(s.wide_a, s.wide_b + at, s.c + at, m * 16, width), j += 1;
  }
  // c itself is added by each lane: for s8 that is exact, as the sums of one product are below 2²⁴.
  for (int l = 0; l < 32; ++l) {
    Sum* c = static_cast<Sum*>(static_cast<Multiply*>(lanes[l])->c);
    const int g = l / 4, t = l % 4;
    for (int i = 0; i < m; ++i)
      for (int j = 0; j < n; ++j, c += 4) {
        const float* from = s.c + (i * 16 + g) * width + j * 8 + 2 * t;
        c[0] += static_cast<Sum>(from[0]), c[1] += static_cast<Sum>(from[1]);
        c[2] += static_cast<Sum>(from[8 * width]), c[3] += static_cast<Sum>(from[8 * width + 1]);
      }
  }
  block->counted.mma += static_cast<uint64_t>(m * n);
}
template void multiply<Element::f16>(void**);
template void multiply<Element::bf16>(void**);
template void multiply<Element::s8>(void**);

}  // namespace emu
