// The register tiles of products by Arm's matrix instructions, each of which multiplies eight bytes of two
// rows by eight bytes of two columns. Panels hold [k bytes / 8][nr][8 bytes], so that two columns are one
// vector. The including file defines
//   Bf16Matrix, I8Matrix { Acc; none(); multiply(acc, two rows, two columns); to_float(acc) }
// where the lanes of an Acc are row 0 · column 0, row 0 · column 1, row 1 · column 0, row 1 · column 1.
namespace nd::cpu::ND_ISA {
namespace {

constexpr int64_t kDepthBytes = 8;

/// Sums of MR rows × NV vectors of four columns. If MR is odd, the last row is paired with itself.
template <class Matrix, int MR, int NV>
struct MatrixTile {
  static constexpr int kPairs = (MR + 1) / 2;
  typename Matrix::Acc acc[kPairs][2 * NV];

  void clear() {
#pragma GCC unroll 8
    for (int p = 0; p < kPairs; ++p)
#pragma GCC unroll 8
      for (int v = 0; v < 2 * NV; ++v) acc[p][v] = Matrix::none();
  }

  /// Adds the products of one group of `bytes` per row.
  void accumulate(const uint8_t* const* a, int64_t bytes, const uint8_t* b) {
    for (int64_t k = 0; k < bytes; k += kDepthBytes, b += kNr * kDepthBytes) {
      Words rows[kPairs];
#pragma GCC unroll 8
      for (int p = 0; p < kPairs; ++p)
        rows[p] = vcombine_u8(vld1_u8(a[2 * p] + k), vld1_u8(a[2 * p + 1 < MR ? 2 * p + 1 : 2 * p] + k));
#pragma GCC unroll 8
      for (int v = 0; v < 2 * NV; ++v) {
        if (v % 4 == 0) __builtin_prefetch(b + 1024 + v * 16);
        const Words columns = load_words(b + v * 16);
#pragma GCC unroll 8
        for (int p = 0; p < kPairs; ++p) Matrix::multiply(acc[p][v], rows[p], columns);
      }
    }
  }

  /// Columns 4v…4v+3 of row r.
  Vec sums(int r, int v) const {
    const Vec left = Matrix::to_float(acc[r / 2][2 * v]), right = Matrix::to_float(acc[r / 2][2 * v + 1]);
    return r % 2 ? vcombine_f32(vget_high_f32(left), vget_high_f32(right))
                 : vcombine_f32(vget_low_f32(left), vget_low_f32(right));
  }
};

template <class Matrix>
struct Bf16MatrixFormat {
  static constexpr int64_t kElementBytes = 2, kStepBytes = kDepthBytes;
  static constexpr bool kScaled = false;
  static int64_t group_bytes(const KGroup& group) { return group.length * 2 * kNr; }

  template <int MR, int NV>
  static void tile(const ReducedRows& rows, const KGroup* groups, int64_t count, const uint8_t* b, bool begin,
                   float* sums) {
    MatrixTile<Matrix, MR, NV> products;
    products.clear();
    for (int64_t g = 0; g < count; ++g) {
      const uint8_t* a[MR];
#pragma GCC unroll 8
      for (int r = 0; r < MR; ++r) a[r] = rows.a[r] + groups[g].offset * 2;
      products.accumulate(a, groups[g].length * 2, b);
      b += group_bytes(groups[g]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < MR; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) {
        float* sum = sums + r * kNr + v * kLanes;
        store(sum, begin ? products.sums(r, v) : add(load(sum), products.sums(r, v)));
      }
  }
};

/// Groups begin and are computed as in I8Format (reduced_tiles.inc.h).
template <class Matrix>
struct I8MatrixFormat {
  static constexpr int64_t kElementBytes = 1, kStepBytes = kDepthBytes;
  static constexpr bool kScaled = true;
  static int64_t group_bytes(const KGroup& group) { return (8 + group.length) * kNr; }

  template <int MR, int NV>
  static void tile(const ReducedRows& rows, const KGroup* groups, int64_t count, const uint8_t* b, bool begin,
                   float* sums) {
    for (int64_t g = 0; g < count; ++g) {
      const uint8_t* a[MR];
#pragma GCC unroll 8
      for (int r = 0; r < MR; ++r) a[r] = rows.a[r] + groups[g].offset;
      MatrixTile<Matrix, MR, NV> products;
      products.clear();
      products.accumulate(a, groups[g].length, b + kNr * 8);
      const bool first_group = begin && g == 0;
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) {
        const float* header = reinterpret_cast<const float*>(b) + v * kLanes;
        const Vec column_scale = load(header), column_sum = load(header + kNr);
#pragma GCC unroll 8
        for (int r = 0; r < MR; ++r) {
          const float* scale = rows.scales[r] + 2 * groups[g].scale;
          float* sum = sums + r * kNr + v * kLanes;
          const Vec before = fma(set1(scale[1]), column_sum, first_group ? zero() : load(sum));
          store(sum, fma(products.sums(r, v), mul(column_scale, set1(scale[0])), before));
        }
      }
      b += group_bytes(groups[g]);
    }
  }
};

}  // namespace
}  // namespace nd::cpu::ND_ISA
