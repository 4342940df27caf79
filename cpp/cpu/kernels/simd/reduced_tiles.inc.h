// The register tiles of products by dot-product instructions. The including file defines
//   Words, load_words(p), broadcast_word(p)   vectors of 32-bit words: pairs of bfloat16, quadruples of bytes
//   Bf16Dot, I8Dot { Acc; none(); dot(acc, activations, weights); to_float(acc) }
// I8Dot also says how bytes represent values (kSteps, kShift; see reduced_rows.inc.h).
namespace nd::cpu::ND_ISA {
namespace {

/// The products of one group of `bytes` per row, for MR rows × NV vectors.
template <class Dot, int MR, int NV>
inline void dot_group(const uint8_t* const* a, int64_t bytes, const uint8_t* b,
                      typename Dot::Acc (&acc)[MR][NV]) {
  for (int64_t k = 0; k < bytes; k += 4, b += kNr * 4) {
    Words weights[NV];
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      weights[v] = load_words(b + v * kLanes * 4);
      if (v * kLanes % 16 == 0) __builtin_prefetch(b + 1024 + v * kLanes * 4);
    }
#pragma GCC unroll 8
    for (int r = 0; r < MR; ++r) {
      const Words x = broadcast_word(a[r] + k);
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) Dot::dot(acc[r][v], x, weights[v]);
    }
  }
}

template <class Dot>
struct Bf16Format {
  static constexpr int64_t kElementBytes = 2, kStepBytes = 4;
  static constexpr bool kScaled = false;
  static int64_t group_bytes(const KGroup& group) { return group.length * 2 * kNr; }

  template <int MR, int NV>
  static void tile(const ReducedRows& rows, const KGroup* groups, int64_t count, const uint8_t* b, bool begin,
                   float* sums) {
    Vec acc[MR][NV];
#pragma GCC unroll 8
    for (int r = 0; r < MR; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) acc[r][v] = begin ? zero() : load(sums + r * kNr + v * kLanes);
    for (int64_t g = 0; g < count; ++g) {
      const uint8_t* a[MR];
#pragma GCC unroll 8
      for (int r = 0; r < MR; ++r) a[r] = rows.a[r] + groups[g].offset * 2;
      dot_group<Dot, MR, NV>(a, groups[g].length * 2, b, acc);
      b += group_bytes(groups[g]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < MR; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) store(sums + r * kNr + v * kLanes, acc[r][v]);
  }
};

/// Integers of so many bytes. Offsets: whether activations have one.
template <class Dot, int64_t Bytes, bool Offsets>
struct IntegerFormat {
  static constexpr int64_t kElementBytes = Bytes, kStepBytes = 4;
  static constexpr int64_t kHeaderFloats = Offsets ? 2 * kNr : kNr;  // of a group of a panel
  static constexpr bool kScaled = true;
  static int64_t group_bytes(const KGroup& group) { return 4 * kHeaderFloats + group.length * Bytes * kNr; }

  // A group of a panel holds the scale s and, for offsets, s·Σw of each column, then the weights. An
  // activation is offset + step·u, so the group's part of the product is step·s·Σu·w + offset·s·Σw.
  // `scales` are those of the rows. The sums are overwritten if First.
  template <int MR, int NV, bool First>
  static void add_group(const typename Dot::Acc (&acc)[MR][NV], const float* const (&scales)[MR],
                        const float* header, float* sums) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      const Vec column_scale = load(header + v * kLanes),
                column_sum = Offsets ? load(header + kNr + v * kLanes) : zero();
#pragma GCC unroll 8
      for (int r = 0; r < MR; ++r) {
        float* sum = sums + r * kNr + v * kLanes;
        const Vec sum_so_far = First ? zero() : load(sum);
        const Vec before = Offsets ? fma(set1(scales[r][1]), column_sum, sum_so_far) : sum_so_far;
        store(sum, fma(Dot::to_float(acc[r][v]), mul(column_scale, set1(scales[r][0])), before));
      }
    }
  }

  template <int MR, int NV>
  static void tile(const ReducedRows& rows, const KGroup* groups, int64_t count, const uint8_t* b, bool begin,
                   float* sums) {
    for (int64_t g = 0; g < count; ++g) {
      const uint8_t* a[MR];
      typename Dot::Acc acc[MR][NV];
#pragma GCC unroll 8
      for (int r = 0; r < MR; ++r) {
        a[r] = rows.a[r] + groups[g].offset * Bytes;
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) acc[r][v] = Dot::none();
      }
      dot_group<Dot, MR, NV>(a, groups[g].length * Bytes, b + 4 * kHeaderFloats, acc);
      const float* header = reinterpret_cast<const float*>(b);
      const float* scales[MR];
#pragma GCC unroll 8
      for (int r = 0; r < MR; ++r) scales[r] = rows.scales[r] + 2 * groups[g].scale;
      if (begin && g == 0)
        add_group<MR, NV, true>(acc, scales, header, sums);
      else
        add_group<MR, NV, false>(acc, scales, header, sums);
      b += group_bytes(groups[g]);
    }
  }
};

template <class Dot>
using I8Format = IntegerFormat<Dot, 1, true>;

}  // namespace
}  // namespace nd::cpu::ND_ISA
