// The loops around the tiles of reduced-precision products. They are those of gemm.inc.h, but K blocks end at
// group boundaries.
namespace nd::cpu::ND_ISA {
namespace {

constexpr int64_t kKBlockBytes = 4096 * kNr;  // weights that stay in L2 while a row block streams past

/// Where the activations and the scales of a tile's rows begin.
struct ReducedRows {
  const uint8_t* a[kTileRows];
  const float* scales[kTileRows];  // null without scales
};

/// Adds the products of some groups to a tile of sums, or overwrites the sums where `begin`.
using ReducedTile = void (*)(const ReducedRows&, const KGroup*, int64_t, const uint8_t*, bool, float*);

template <class Format, int NV>
inline ReducedTile tile_of_height(int64_t height) {
  static constexpr ReducedTile tiles[] = {
      Format::template tile<1, NV>, Format::template tile<2, NV>, Format::template tile<3, NV>,
      Format::template tile<4, NV>, Format::template tile<5, NV>, Format::template tile<6, NV>,
  };
  return tiles[height - 1];
}

template <class Format>
inline ReducedTile tile_of(int64_t vectors, int64_t height) {
  switch (vectors) {
    case 1:
      return tile_of_height<Format, 1>(height);
    case 2:
      return tile_of_height<Format, 2>(height);
#if ND_TILE_VECS == 4
    case 3:
      return tile_of_height<Format, 3>(height);
#endif
    default:
      return tile_of_height<Format, kTileVecs>(height);
  }
}

/// For assertions: whether the length of every group is a multiple of `multiple` elements.
inline bool are_multiples(const KGroup* groups, int64_t count, int64_t multiple) {
  for (int64_t g = 0; g < count; ++g)
    if (groups[g].length <= 0 || groups[g].length % multiple != 0) return false;
  return true;
}

/// Format says how activations and weights are encoded: kElementBytes, kStepBytes (of a row in one
/// instruction), kScaled, group_bytes(group) of a panel, and tile<rows, vectors>, a ReducedTile.
template <class Format>
void reduced_gemm(const ReducedGemmArgs& args, int64_t m0, int64_t m1, int64_t p0, int64_t p1) {
  const ReducedLhs& lhs = args.lhs;
  check_product(args.m, args.n, args.epilogue, m0, m1, p0, p1);
  ND_ASSERT(lhs.data && lhs.pixel_elements > 0 && (lhs.scales || !Format::kScaled));
  ND_ASSERT(args.rhs.panels && is_aligned(args.rhs.panels) && args.rhs.panel_bytes % 64 == 0);
  ND_ASSERT(are_multiples(args.groups, args.group_count, Format::kStepBytes / Format::kElementBytes));
  alignas(64) float partial[kRowBlock * kNr];
  for (int64_t block = m0; block < m1; block += kRowBlock) {
    const int64_t block_end = min(block + kRowBlock, m1);
    for (int64_t p = p0; p < p1; ++p) {
      const PanelStart panel = panel_start(args.epilogue, args.n, p);
      const int64_t vectors = (panel.width + kLanes - 1) / kLanes;
      const uint8_t* b = args.rhs.panels + p * args.rhs.panel_bytes;
      for (int64_t g = 0; g < args.group_count;) {
        int64_t bytes = 0, end = g;
        while (end < args.group_count &&
               (end == g || bytes + Format::group_bytes(args.groups[end]) <= kKBlockBytes))
          bytes += Format::group_bytes(args.groups[end++]);
        const bool begin = g == 0, last = end == args.group_count;
        for (int64_t row = block; row < block_end; row += kTileRows) {
          const int64_t height = min(kTileRows, block_end - row);
          ReducedRows rows;
          for (int64_t r = 0; r < height; ++r) {
            const int64_t at = lhs.row_offset ? lhs.row_offset[row + r] : (row + r) * lhs.pixel_elements;
            // A division takes as long as the products of a short row.
            const int64_t pixel = lhs.row_offset ? at / lhs.pixel_elements : row + r;
            rows.a[r] = static_cast<const uint8_t*>(lhs.data) + at * Format::kElementBytes;
            rows.scales[r] = Format::kScaled ? lhs.scales + 2 * (pixel * lhs.scales_per_pixel) : nullptr;
          }
          // With a single K block, all tiles use the same few lines of L1.
          float* sums = begin && last ? partial : partial + (row - block) * kNr;
          tile_of<Format>(vectors, height)(rows, args.groups + g, end - g, b, begin, sums);
          if (last) finish_tile(args.epilogue, panel, row, height, sums);
        }
        b += bytes;
        g = end;
      }
    }
  }
}

}  // namespace
}  // namespace nd::cpu::ND_ISA
