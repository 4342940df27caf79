// Partial vectors, and matrix transposition in blocks of kLanes × kLanes.
namespace nd::cpu::ND_ISA {
namespace {

template <bool Partial>
inline Vec load_some(const float* p, int64_t n) {
  return Partial ? load_n(p, n) : load(p);
}

template <bool Partial>
inline void store_some(float* p, Vec x, int64_t n) {
  if (Partial)
    store_n(p, x, n);
  else
    store(p, x);
}

/// Reads `columns` ≤ kLanes elements of each of `rows` ≤ kLanes rows, of which row(i) is the address, and
/// multiplies them by `factor`. The rest of the block is set to zero.
template <class Row>
inline void load_block(const Row& row, int64_t rows, int64_t columns, Vec factor, Vec (&block)[kLanes]) {
  for (int i = 0; i < kLanes; ++i) {
    if (i >= rows)
      block[i] = zero();
    else if (columns == kLanes)
      block[i] = mul(load(row(i)), factor);
    else
      block[i] = mul(load_n(row(i), columns), factor);
  }
}

/// Transposes a whole block, times `factor`: column j becomes the row at out + j·ldo. Its loops are unrolled,
/// as GCC does by itself, so that the block lies in registers: Clang would keep it in memory.
template <class Row>
inline void transpose_whole_block(const Row& row, Vec factor, float* out, int64_t ldo) {
  Vec block[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) block[i] = mul(load(row(i)), factor);
  transpose(block);
#pragma GCC unroll 16
  for (int j = 0; j < kLanes; ++j) store(out + j * ldo, block[j]);
}

/// out[j·ldo + i] = factor · x[i·ldx + j] for i < rows, j < columns.
void transpose_matrix(const float* x, int64_t ldx, int64_t rows, int64_t columns, float factor, float* out,
                      int64_t ldo) {
  Vec block[kLanes];
  for (int64_t i = 0; i < rows; i += kLanes, x += kLanes * ldx) {
    const int64_t height = min(kLanes, rows - i);
    int64_t j = 0;
    // Computed for each block: an array of addresses would take longer than the multiplications.
    const auto row = [&](int64_t r) { return x + r * ldx + j; };
    if (height == kLanes)
      for (; j + kLanes <= columns; j += kLanes)
        transpose_whole_block(row, set1(factor), out + j * ldo + i, ldo);
    for (; j < columns; j += kLanes) {
      const int64_t width = min(kLanes, columns - j);
      load_block(row, height, width, set1(factor), block);
      transpose(block);
      for (int64_t c = 0; c < width; ++c) {
        if (height == kLanes)
          store(out + (j + c) * ldo + i, block[c]);
        else
          store_n(out + (j + c) * ldo + i, block[c], height);
      }
    }
  }
}

void planar_to_rows(const float* x, int64_t c, int64_t pixels, float* out) {
  transpose_matrix(x, pixels, c, pixels, 1.0f, out, c);
}

void rows_to_planar(const float* x, int64_t c, int64_t pixels, float* out) {
  transpose_matrix(x, c, pixels, c, 1.0f, out, pixels);
}

void pack_panel(const float* const* rows, int64_t count, int64_t k, float* panel) {
  ND_ASSERT(0 < count && count <= kNr && is_aligned(panel));
  Vec block[kLanes];
  for (int64_t j = 0; j < kNr; j += kLanes) {
    const int64_t height = count < j ? 0 : min(kLanes, count - j);
    int64_t i = 0;
    const auto row = [&](int64_t r) { return rows[j + r] + i; };
    if (height == kLanes)
      for (; i + kLanes <= k; i += kLanes) transpose_whole_block(row, set1(1.0f), panel + i * kNr + j, kNr);
    for (; i < k; i += kLanes) {
      const int64_t width = min(kLanes, k - i);
      load_block(row, height, width, set1(1.0f), block);
      transpose(block);
      for (int64_t c = 0; c < width; ++c) store(panel + (i + c) * kNr + j, block[c]);
    }
  }
}

}  // namespace
}  // namespace nd::cpu::ND_ISA
