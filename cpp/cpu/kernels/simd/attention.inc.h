// Attention with an online softmax (Milakov & Gimelshein 2018; Dao et al. 2022), computed transposed: queries
// lie in the vector lanes. A tile of scores is 6 keys × kNr queries, a tile of outputs 6 channels × kNr
// queries, so that
//  - no lane is wasted on a head dimension such as 40,
//  - maxima, sums and rescaling are plain vector operations without a reduction across lanes,
//  - both products broadcast from K or V and read a panel (queries, then probabilities) as vectors.
// Queries are packed with the factor scale·log₂e, so that probabilities are powers of two.
namespace nd::cpu::ND_ISA {
namespace {

constexpr int64_t kQueryBlock = kNr < 64 ? 64 : kNr;  // queries that share one pass over the keys
constexpr int64_t kQueryPanels = kQueryBlock / kNr;
constexpr float kMasked = -3.402823466e38f;

/// Keys in a block, a multiple of kTileRows: the keys, values and scores of a block fit in L2. This depends
/// on the head dimension only, so the order of operations does not depend on how the queries are cut.
inline int64_t key_block(int64_t head_dim) {
  return head_dim <= 128 ? 240 : head_dim <= 256 ? 120 : 60;
}

struct AttentionScratch {
  float* queries;  // [kQueryPanels][head_dim][kNr]
  float* outputs;  // [kQueryPanels][head_dim][kNr], not yet divided by the totals
  float* highest;  // [kQueryPanels][kNr] maximum of the scores so far
  float* totals;   // [kQueryPanels][kNr] sum of the probabilities so far
  float* scores;   // [key_block][kNr], then probabilities
};

inline AttentionScratch split_scratch(float* p, int64_t d) {
  AttentionScratch s;
  s.queries = p;
  s.outputs = s.queries + d * kQueryBlock;
  s.highest = s.outputs + d * kQueryBlock;
  s.totals = s.highest + kQueryBlock;
  s.scores = s.totals + kQueryBlock;
  return s;
}

int64_t attention_scratch_floats(const AttentionArgs& args) {
  return (2 * args.head_dim + 2) * kQueryBlock + key_block(args.head_dim) * kNr;
}

/// Channels in the value tile that begins with channel j. The heights are as even as possible, because a tile
/// of one or two rows is bound by loads.
inline int64_t value_rows(int64_t d, int64_t j) {
  const int64_t tiles = (d + kTileRows - 1) / kTileRows, taller = d - tiles * (d / tiles), height = d / tiles;
  return j < taller * (height + 1) ? height + 1 : height;
}

#define ND_SWITCH_ROWS(rows, call) \
  switch (rows) {                  \
    case 6:                        \
      call(6);                     \
      break;                       \
    case 5:                        \
      call(5);                     \
      break;                       \
    case 4:                        \
      call(4);                     \
      break;                       \
    case 3:                        \
      call(3);                     \
      break;                       \
    case 2:                        \
      call(2);                     \
      break;                       \
    case 1:                        \
      call(1);                     \
      break;                       \
  }

/// The d channels of R keys, as [d][R]. The height of the tile is a constant, and the stores follow one
/// another: of the loops with a variable height, Clang makes scatters or calls of memcpy().
template <int R>
void pack_key_tile(const float* keys, int64_t ldk, int64_t d, float* packed) {
  for (int64_t j = 0; j < d; ++j, packed += R)
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) packed[r] = keys[r * ldk + j];
}

/// R channels of `count` values, as [count][R].
template <int R>
void pack_value_tile(const float* values, int64_t ldv, int64_t count, float* packed) {
  for (int64_t t = 0; t < count; ++t, values += ldv, packed += R)
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) packed[r] = values[r];
}

// Keys are packed as [⌈k_len/6⌉ tiles][head_dim][6] (a last tile of fewer keys is narrower), then values as
// [tiles of channels][k_len][value_rows], so that each tile reads one stream. Read in place, rows at a
// power-of-two distance (2 KB for the VAE's 512 channels) would map all keys to a few sets of L1.
int64_t attention_packed_floats(const AttentionArgs& args) {
  return 2 * args.k_len * args.head_dim;
}

void attention_pack(const AttentionArgs& args, int64_t batch, int64_t head, float* packed) {
  ND_ASSERT(args.k && args.v && args.k_len > 0 && args.head_dim > 0 && head < args.heads);
  ND_ASSERT(is_aligned(packed));
  const int64_t d = args.head_dim;
  const float* keys = args.k + batch * args.k_len * args.ldk + head * d;
  const float* values = args.v + batch * args.k_len * args.ldv + head * d;
  for (int64_t t = 0; t < args.k_len; t += kTileRows) {
#define ND_KEYS(R) pack_key_tile<R>(keys + t * args.ldk, args.ldk, d, packed + t * d)
    ND_SWITCH_ROWS(min(kTileRows, args.k_len - t), ND_KEYS)
#undef ND_KEYS
  }
  packed += args.k_len * d;
  for (int64_t j = 0, rows; j < d; j += rows) {
    rows = value_rows(d, j);
#define ND_VALUES(R) pack_value_tile<R>(values + j, args.ldv, args.k_len, packed + j * args.k_len)
    ND_SWITCH_ROWS(rows, ND_VALUES)
#undef ND_VALUES
  }
}

/// acc[r][v] += Σ_k a[k][r] · b[k][v], the inner loop of both products.
template <int MR, int NV>
inline void attention_product(const float* a, const float* b, int64_t count, Vec (&acc)[MR][NV]) {
  for (int64_t k = 0; k < count; ++k, a += MR, b += kNr) {
    Vec lanes[NV];
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      lanes[v] = load(b + v * kLanes);
      if (v * kLanes % 16 == 0) __builtin_prefetch(b + 256 + v * kLanes);
    }
#pragma GCC unroll 8
    for (int r = 0; r < MR; ++r) {
      const Vec x = set1(a[r]);
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) acc[r][v] = fma(x, lanes[v], acc[r][v]);
    }
  }
}

/// Scores of MR keys. Unless a causal mask must come first, `raise` says to raise `highest` to their maxima.
template <int MR, int NV>
void score_tile(const float* keys, const float* queries, int64_t d, bool raise, float* highest,
                float* scores) {
  Vec acc[MR][NV];
#pragma GCC unroll 8
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) acc[r][v] = zero();
  attention_product<MR, NV>(keys, queries, d, acc);
#pragma GCC unroll 8
  for (int v = 0; v < NV; ++v) {
    Vec top = load(highest + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < MR; ++r) {
      top = max(top, acc[r][v]);
      store(scores + r * kNr + v * kLanes, acc[r][v]);
    }
    if (raise) store(highest + v * kLanes, top);
  }
}

/// Rescales MR channels of the outputs, then adds the values of `count` keys.
template <int MR, int NV>
void value_tile(const float* values, const float* probabilities, int64_t count, const Vec (&rescale)[NV],
                float* outputs) {
  Vec acc[MR][NV];
#pragma GCC unroll 8
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) acc[r][v] = mul(load(outputs + r * kNr + v * kLanes), rescale[v]);
  attention_product<MR, NV>(values, probabilities, count, acc);
#pragma GCC unroll 8
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) store(outputs + r * kNr + v * kLanes, acc[r][v]);
}

/// Masks the keys after each query: row r of the scores is key `key + r`, lane i is query `query + i`.
template <int NV>
void mask_scores(int64_t key, int64_t count, int64_t query, float* highest, float* scores) {
  for (int64_t r = 0; r < count; ++r, scores += kNr) {
    for (int64_t i = 0; i < min(key + r - query, NV * kLanes); ++i) scores[i] = kMasked;
    for (int v = 0; v < NV; ++v)
      store(highest + v * kLanes, max(load(highest + v * kLanes), load(scores + v * kLanes)));
  }
}

/// Makes probabilities of R rows of scores, and adds them to the totals.
template <int R, int NV>
inline void softmax_rows(const Vec (&highest)[NV], Vec (&total)[NV], float* scores) {
  using Rows = Vecs<R * NV>;
  const auto address = [&](int i) { return scores + i / NV * kNr + i % NV * kLanes; };
  const Rows p = exp2_negative(Rows::each([&](int i) { return sub(load(address(i)), highest[i % NV]); }));
#pragma GCC unroll 8
  for (int i = 0; i < R * NV; ++i) {
    total[i % NV] = add(total[i % NV], p.v[i]);
    store(address(i), p.v[i]);
  }
}

/// The block of `count` keys from `key` on, for the panel whose first query is `query`.
template <int NV>
void attention_block(const AttentionArgs& args, const float* packed, int64_t key, int64_t count,
                     int64_t query, const AttentionScratch& s) {
  const int64_t d = args.head_dim;
  Vec before[NV], rescale[NV];
  for (int v = 0; v < NV; ++v) before[v] = load(s.highest + v * kLanes);

  // A causal block may end inside a packed tile, whose other keys are computed and masked.
  count = min((count + kTileRows - 1) / kTileRows * kTileRows, args.k_len - key);
  const bool masked = args.causal && key + count - 1 > query;
  for (int64_t t = 0; t < count; t += kTileRows) {
#define ND_SCORES(R) \
  score_tile<R, NV>(packed + (key + t) * d, s.queries, d, !masked, s.highest, s.scores + t * kNr)
    ND_SWITCH_ROWS(min(kTileRows, args.k_len - key - t), ND_SCORES)
#undef ND_SCORES
  }
  if (masked) mask_scores<NV>(key, count, query, s.highest, s.scores);

  Vec highest[NV], total[NV];
  for (int v = 0; v < NV; ++v) {
    highest[v] = load(s.highest + v * kLanes);
    rescale[v] = exp2_negative(sub(before[v], highest[v]));
    total[v] = zero();
  }
  constexpr int64_t rows = kAtOnce > NV ? kAtOnce / NV : 1;
  int64_t t = 0;
  for (; t < count / rows * rows; t += rows) softmax_rows<rows, NV>(highest, total, s.scores + t * kNr);
  if (rows > 1)
    for (; t < count; ++t) softmax_rows<1, NV>(highest, total, s.scores + t * kNr);
  for (int v = 0; v < NV; ++v)
    store(s.totals + v * kLanes, fma(load(s.totals + v * kLanes), rescale[v], total[v]));

  const float* values = packed + args.k_len * d;
  for (int64_t j = 0, height; j < d; j += height) {
    height = value_rows(d, j);
    const float* tile = values + j * args.k_len + key * height;
#define ND_VALUES(R) value_tile<R, NV>(tile, s.scores, count, rescale, s.outputs + j * kNr)
    ND_SWITCH_ROWS(height, ND_VALUES)
#undef ND_VALUES
  }
}
#undef ND_SWITCH_ROWS

using AttentionBlock = void (*)(const AttentionArgs&, const float*, int64_t, int64_t, int64_t,
                                const AttentionScratch&);
/// [vectors of queries − 1]
constexpr AttentionBlock kAttentionBlocks[] = {
    attention_block<1>,
    attention_block<2>,
#if ND_TILE_VECS == 4
    attention_block<3>,
    attention_block<4>,
#endif
};

inline AttentionScratch panel_scratch(const AttentionScratch& s, int64_t panel, int64_t d) {
  return {s.queries + panel * d * kNr, s.outputs + panel * d * kNr, s.highest + panel * kNr,
          s.totals + panel * kNr, s.scores};
}

void attention(const AttentionArgs& args, int64_t batch, int64_t head, int64_t q0, int64_t q1,
               const float* packed, float* scratch) {
  ND_ASSERT(args.q && args.out && args.k_len > 0 && args.head_dim > 0 && head < args.heads);
  ND_ASSERT(0 <= q0 && q0 <= q1 && q1 <= args.q_len);
  ND_ASSERT(is_aligned(packed) && is_aligned(scratch));
  const int64_t d = args.head_dim, block_keys = key_block(d);
  const AttentionScratch all = split_scratch(scratch, d);
  const float* q = args.q + batch * args.q_len * args.ldq + head * d;
  float* out = args.out + batch * args.q_len * args.ldo + head * d;
  for (int64_t block = q0; block < q1; block += kQueryBlock) {
    const int64_t block_end = min(block + kQueryBlock, q1);
    const int64_t panels = (block_end - block + kNr - 1) / kNr;
    for (float *p = all.queries, *end = p + 2 * d * kQueryBlock; p != end; p += kLanes) store(p, zero());
    for (int64_t i = 0; i < kQueryBlock; ++i) {
      all.highest[i] = kMasked;
      all.totals[i] = 0;
    }
    for (int64_t p = 0; p < panels; ++p) {
      const int64_t first = block + p * kNr;
      transpose_matrix(q + first * args.ldq, args.ldq, min(kNr, block_end - first), d, args.scale * kLog2E,
                       all.queries + p * d * kNr, kNr);
    }
    const int64_t keys = args.causal ? min(args.k_len, block_end) : args.k_len;
    for (int64_t key = 0; key < keys; key += block_keys) {
      for (int64_t p = 0; p < panels; ++p) {
        const int64_t first = block + p * kNr, last = min(first + kNr, block_end) - 1;
        const int64_t visible = args.causal ? min(keys, last + 1) : keys;
        if (key >= visible) continue;
        kAttentionBlocks[(last - first) / kLanes](args, packed, key, min(block_keys, visible - key), first,
                                                  panel_scratch(all, p, d));
      }
    }
    for (int64_t p = 0; p < panels; ++p) {
      const int64_t first = block + p * kNr;
      const AttentionScratch s = panel_scratch(all, p, d);
      Vec inverse[kTileVecs];
      for (int v = 0; v < kTileVecs; ++v) inverse[v] = div(set1(1.0f), load(s.totals + v * kLanes));
      for (int64_t j = 0; j < d; ++j)
        for (int v = 0; v < kTileVecs; ++v) {
          float* o = s.outputs + j * kNr + v * kLanes;
          store(o, mul(load(o), inverse[v]));
        }
      transpose_matrix(s.outputs, kNr, d, min(kNr, block_end - first), 1.0f, out + first * args.ldo,
                       args.ldo);
    }
  }
}

}  // namespace
}  // namespace nd::cpu::ND_ISA
