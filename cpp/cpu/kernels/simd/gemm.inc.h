// C = epilogue(A·Bᵀ). The loops, from the outside: row block, group of panels, K block, row tile, panel. A K
// block of the group's weights thus stays in L2 while the row block streams past it, and partial sums are
// kept on the stack between K blocks. Storing and loading a sum changes no bit and every sum takes its terms
// in order of k, so neither a cut of the range nor a narrower tile at an edge changes a result.
namespace nd::cpu::ND_ISA {
namespace {

constexpr int64_t kRowBlock = 192;  // × 64 sums × 4 bytes: 48 KB of stack
// Prefetches 1 KB ahead in the panel. Measured on Zen 4: where weights stream from memory (256×1280×11520 on
// a busy machine), 91–95 % of the peak with it, and 70–76 % in two of three runs without; where weights are
// in a cache it costs 0–3 %.
constexpr int64_t kPrefetchFloats = 256;

/// One tile of MR rows × NV vectors over `steps` values of k, which begin `skip` values into `run`. The sums
/// [MR][kNr] are overwritten where `begin`, else added to.
template <int MR, int NV>
void gemm_tile(const float* const* rows, const KRun* run, int64_t skip, int64_t steps, const float* b,
               bool begin, float* sums) {
  Vec acc[MR][NV];
#pragma GCC unroll 8
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) acc[r][v] = begin ? zero() : load(sums + r * kNr + v * kLanes);
  while (steps > 0) {
    const int64_t length = min(run->length - skip, steps);
    const float* a[MR];
#pragma GCC unroll 8
    for (int r = 0; r < MR; ++r) a[r] = rows[r] + run->offset + skip;
    for (int64_t k = 0; k < length; ++k, b += kNr) {
      Vec weights[NV];
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) {
        weights[v] = load(b + v * kLanes);
        if (v * kLanes % 16 == 0) __builtin_prefetch(b + kPrefetchFloats + v * kLanes);
      }
#pragma GCC unroll 8
      for (int r = 0; r < MR; ++r) {
        const Vec x = set1(a[r][k]);
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) acc[r][v] = fma(x, weights[v], acc[r][v]);
      }
    }
    steps -= length;
    skip = 0;
    ++run;
  }
#pragma GCC unroll 8
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) store(sums + r * kNr + v * kLanes, acc[r][v]);
}

using GemmTile = void (*)(const float* const*, const KRun*, int64_t, int64_t, const float*, bool, float*);

#define ND_TILE_ROW(NV)                                                                       \
  {                                                                                           \
    gemm_tile<1, NV>, gemm_tile<2, NV>, gemm_tile<3, NV>, gemm_tile<4, NV>, gemm_tile<5, NV>, \
        gemm_tile<6, NV>                                                                      \
  }
/// [vectors − 1][rows − 1]
constexpr GemmTile kGemmTiles[][kTileRows] = {
    ND_TILE_ROW(1),
    ND_TILE_ROW(2),
#if ND_TILE_VECS == 4
    ND_TILE_ROW(3),
    ND_TILE_ROW(4),
#endif
};
#undef ND_TILE_ROW

/// Where the epilogue of one panel begins.
struct PanelStart {
  const float* bias;  // of the panel's first slot, or null
  int64_t width;      // slots in use
  int64_t column;     // the first column of C
};

/// Panel p of a product of n columns.
inline PanelStart panel_start(const GemmEpilogue& epilogue, int64_t n, int64_t p) {
  const int64_t first = p * kNr;
  return {epilogue.bias ? epilogue.bias + first : nullptr, min(kNr, n - first),
          epilogue.activation == Activation::geglu ? first / 2 : first};
}

/// Row i of C and of the residual, from the first column of the panel.
inline float* output_row(const GemmEpilogue& epilogue, const PanelStart& panel, int64_t i) {
  return epilogue.c + (epilogue.c_offset ? epilogue.c_offset[i] : i * epilogue.ldc) + panel.column;
}
inline const float* residual_row(const GemmEpilogue& epilogue, const PanelStart& panel, int64_t i) {
  return epilogue.residual + (epilogue.residual_offset ? epilogue.residual_offset[i] : i * epilogue.ldr) +
         panel.column;
}

/// One vector of outputs, of which only `n` exist if Partial. All pointers point to this vector or are null;
/// the gates of GEGLU lie `gate` floats after their values.
template <Activation F, bool Partial>
inline void epilogue_vector(const float* sums, const float* bias, const float* image_bias, int64_t gate,
                            Vec scale, const float* residual, float* out, int64_t n) {
  Vec x = load_some<Partial>(sums, n);
  if (bias) x = add(x, load_some<Partial>(bias, n));
  if (image_bias) x = add(x, load_some<Partial>(image_bias, n));
  if (F == Activation::geglu) {
    Vec g = load_some<Partial>(sums + gate, n);
    if (bias) g = add(g, load_some<Partial>(bias + gate, n));
    x = mul(x, gelu(g));
  } else {
    x = activated<F>(x);
  }
  x = residual ? fma(x, scale, load_some<Partial>(residual, n)) : mul(x, scale);
  store_some<Partial>(out, x, n);
}

/// The epilogue of a whole panel without image_bias: the bias stays in registers.
template <Activation F, bool Residual>
void apply_to_whole_panel(const GemmEpilogue& given, const PanelStart& panel, int64_t row, int64_t rows,
                          const float* sums) {
  const GemmEpilogue epilogue = given;  // what is stored could alias the original
  constexpr int kOutputs = F == Activation::geglu ? kTileVecs / 2 : kTileVecs;
  Vec bias[kTileVecs];
#pragma GCC unroll 8
  for (int v = 0; v < kTileVecs; ++v) bias[v] = panel.bias ? load(panel.bias + v * kLanes) : zero();
  const Vec scale = set1(epilogue.scale);
  for (int64_t i = row; i < row + rows; ++i, sums += kNr) {
    float* out = output_row(epilogue, panel, i);
    const float* residual = Residual ? residual_row(epilogue, panel, i) : nullptr;
#pragma GCC unroll 8
    for (int v = 0; v < kOutputs; ++v) {
      Vec x = add(load(sums + v * kLanes), bias[v]);
      if (F == Activation::geglu)
        x = mul(x, gelu(add(load(sums + (kOutputs + v) * kLanes), bias[kTileVecs - kOutputs + v])));
      else
        x = activated<F>(x);
      x = Residual ? fma(x, scale, load(residual + v * kLanes)) : mul(x, scale);
      store(out + v * kLanes, x);
    }
  }
}

template <Activation F>
void apply_epilogue(const GemmEpilogue& epilogue, const PanelStart& panel, int64_t row, int64_t rows,
                    const float* sums) {
  if (panel.width == kNr && !epilogue.image_bias)
    return epilogue.residual ? apply_to_whole_panel<F, true>(epilogue, panel, row, rows, sums)
                             : apply_to_whole_panel<F, false>(epilogue, panel, row, rows, sums);
  const int64_t outputs = F == Activation::geglu ? panel.width / 2 : panel.width;
  const Vec scale = set1(epilogue.scale);
  for (int64_t i = row; i < row + rows; ++i, sums += kNr) {
    float* out = output_row(epilogue, panel, i);
    const float* residual = epilogue.residual ? residual_row(epilogue, panel, i) : nullptr;
    const float* image_bias = nullptr;
    if (epilogue.image_bias)
      image_bias =
          epilogue.image_bias + i / epilogue.rows_per_image * epilogue.image_bias_stride + panel.column;
    for (int64_t j = 0; j < outputs; j += kLanes) {
      const float* bias_j = panel.bias ? panel.bias + j : nullptr;
      const float* image_bias_j = image_bias ? image_bias + j : nullptr;
      const float* residual_j = residual ? residual + j : nullptr;
      const int64_t n = outputs - j;
      if (n >= kLanes)
        epilogue_vector<F, false>(sums + j, bias_j, image_bias_j, outputs, scale, residual_j, out + j,
                                  kLanes);
      else
        epilogue_vector<F, true>(sums + j, bias_j, image_bias_j, outputs, scale, residual_j, out + j, n);
    }
  }
}

/// Applies the epilogue to `rows` rows of sums, [rows][kNr], and writes them to C from row `row` on.
void finish_tile(const GemmEpilogue& epilogue, const PanelStart& panel, int64_t row, int64_t rows,
                 const float* sums) {
  switch (epilogue.activation) {
    case Activation::none:
      return apply_epilogue<Activation::none>(epilogue, panel, row, rows, sums);
    case Activation::silu:
      return apply_epilogue<Activation::silu>(epilogue, panel, row, rows, sums);
    case Activation::gelu:
      return apply_epilogue<Activation::gelu>(epilogue, panel, row, rows, sums);
    case Activation::quick_gelu:
      return apply_epilogue<Activation::quick_gelu>(epilogue, panel, row, rows, sums);
    case Activation::geglu:
      return apply_epilogue<Activation::geglu>(epilogue, panel, row, rows, sums);
    case Activation::relu:
      return apply_epilogue<Activation::relu>(epilogue, panel, row, rows, sums);
  }
}

/// Asserts the preconditions that products of every precision share.
inline void check_product(int64_t m, int64_t n, const GemmEpilogue& epilogue, int64_t m0, int64_t m1,
                          int64_t p0, int64_t p1) {
  ND_ASSERT(0 <= m0 && m0 <= m1 && m1 <= m);
  ND_ASSERT(0 <= p0 && p0 <= p1 && p1 <= (n + kNr - 1) / kNr);
  ND_ASSERT(epilogue.c);
  ND_ASSERT(epilogue.rows_per_image > 0);
  ND_ASSERT(epilogue.activation != Activation::geglu || (n % 2 == 0 && !epilogue.image_bias));
}

/// For assertions: the length of a row.
inline int64_t total_length(const GemmLhs& a) {
  int64_t length = 0;
  for (int64_t r = 0; r < a.run_count; ++r) length += a.runs[r].length;
  return length;
}

void gemm(const GemmArgs& args, int64_t m0, int64_t m1, int64_t p0, int64_t p1) {
  const GemmLhs& a = args.lhs;
  check_product(args.m, args.n, args.epilogue, m0, m1, p0, p1);
  ND_ASSERT(a.data && args.rhs.panels && is_aligned(args.rhs.panels));
  ND_ASSERT(total_length(a) == args.k);
  alignas(64) float partial[kRowBlock * kNr * kGroupPanels];
  for (int64_t block = m0; block < m1; block += kRowBlock) {
    const int64_t block_end = min(block + kRowBlock, m1);
    for (int64_t group = p0; group < p1; group += kGroupPanels) {
      const int64_t group_end = min(group + kGroupPanels, p1);
      const KRun* run = a.runs;
      int64_t skip = 0;
      int64_t k = 0;
      do {  // at least once, as the epilogue runs with k = 0, too
        const int64_t steps = min(kKBlock, args.k - k);
        const bool begin = k == 0, end = k + steps == args.k;
        for (int64_t row = block; row < block_end; row += kTileRows) {
          const int64_t height = min(kTileRows, block_end - row);
          const float* rows[kTileRows];
          for (int64_t r = 0; r < height; ++r)
            rows[r] = a.data + (a.row_offset ? a.row_offset[row + r] : (row + r) * a.ld);
          for (int64_t p = group; p < group_end; ++p) {
            const PanelStart panel = panel_start(args.epilogue, args.n, p);
            // With a single K block, all tiles use the same few lines of L1.
            float* sums = partial;
            if (!(begin && end)) sums += ((p - group) * kRowBlock + row - block) * kNr;
            kGemmTiles[(panel.width - 1) / kLanes][height - 1](
                rows, run, skip, steps, args.rhs.panels + (p * args.k + k) * kNr, begin, sums);
            if (!end) continue;
            finish_tile(args.epilogue, panel, row, height, sums);
          }
        }
        k += steps;
        for (skip += steps; run != a.runs + a.run_count && skip >= run->length; ++run) skip -= run->length;
      } while (k < args.k);
    }
  }
}

}  // namespace
}  // namespace nd::cpu::ND_ISA
