// A panel of int4 weights (kernels/int4.h) expanded to a panel of int8, [k / Depth][nr][Depth]. These are
// plain loops over 256 bytes, which every compiler vectorizes.
namespace nd::cpu::ND_ISA {
namespace {

/// The int8 weight that the four-bit value q represents.
inline uint8_t int4_byte(int q, uint16_t factor, uint16_t offset) {
  return static_cast<uint8_t>(static_cast<uint16_t>(q * factor + offset) >> 8);
}

template <int64_t Depth, bool Offsets>
void expand_panel(const uint8_t* packed, const KGroup* groups, int64_t group_count, uint8_t* panel) {
  static_assert(Depth == 4 || Depth == 8, "the layouts of panels");
  constexpr int64_t kHeader = int4_header_bytes(kNr);
  constexpr int64_t kBytes = 4 * kNr;  // eight weights of each column
  for (int64_t g = 0; g < group_count; ++g) {
    __builtin_memcpy(panel, packed, kHeader);
    packed += kHeader;
    panel += kHeader;
    for (int64_t i = 0; i < groups[g].length; i += kInt4Block) {
      uint16_t words[2][kNr];
      alignas(64) uint16_t factor[kBytes], offset[kBytes];
      __builtin_memcpy(words, packed, (Offsets ? 4 : 2) * kNr);
      for (int64_t j = 0; j < kBytes; ++j) factor[j] = words[0][j / 4];
      for (int64_t j = 0; j < kBytes; ++j)
        offset[j] = Offsets ? words[1][j / 4] : static_cast<uint16_t>(128 - 8 * factor[j]);
      packed += (Offsets ? 4 : 2) * kNr;
      for (int64_t k = 0; k < kInt4Block; k += 8, packed += kBytes, panel += 2 * kBytes) {
        if (Depth == 4) {
          for (int64_t j = 0; j < kBytes; ++j) panel[j] = int4_byte(packed[j] & 15, factor[j], offset[j]);
          for (int64_t j = 0; j < kBytes; ++j)
            panel[kBytes + j] = int4_byte(packed[j] >> 4, factor[j], offset[j]);
        } else {
          alignas(64) uint8_t half[2][kBytes];
          for (int64_t j = 0; j < kBytes; ++j) half[0][j] = int4_byte(packed[j] & 15, factor[j], offset[j]);
          for (int64_t j = 0; j < kBytes; ++j) half[1][j] = int4_byte(packed[j] >> 4, factor[j], offset[j]);
          for (int64_t j = 0; j < kNr; ++j) {
            __builtin_memcpy(panel + 8 * j, half[0] + 4 * j, 4);
            __builtin_memcpy(panel + 8 * j + 4, half[1] + 4 * j, 4);
          }
        }
      }
    }
  }
}

template <int64_t Depth>
void expand_int4(const uint8_t* packed, bool offsets, const KGroup* groups, int64_t group_count,
                 uint8_t* panel) {
  ND_ASSERT(packed && is_aligned(panel) && are_multiples(groups, group_count, kInt4Block));
  if (offsets) return expand_panel<Depth, true>(packed, groups, group_count, panel);
  return expand_panel<Depth, false>(packed, groups, group_count, panel);
}

}  // namespace
}  // namespace nd::cpu::ND_ISA
