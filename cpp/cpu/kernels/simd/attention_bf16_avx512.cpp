// Attention whose two products multiply bfloat16 (AVX512-BF16). As in attention.inc.h, queries lie in the
// vector lanes and the softmax is online, in float32. What differs:
//  - Both products take pairs: adjacent channels of queries and keys, adjacent keys of probabilities and
//    values.
//  - The values get one more channel, all ones, whose output is the sum of the probabilities as they were
//    rounded. Their rounding errors then cancel on average, and truncation serves as well as rounding.
//  - 2ᵗ needs no more accuracy than bfloat16 keeps.
#define ND_ISA bf16_attention_avx512
#define ND_VECTOR "cpu/kernels/simd/vec_avx512.inc.h"
#include "cpu/kernels/simd/prelude.inc.h"

namespace nd::cpu::ND_ISA {
namespace {

constexpr float kMasked = -3.402823466e38f;

// Keys in a block: whole tiles and whole pairs. The scores and probabilities of 120 keys fit in L1 and L2;
// with many channels, a longer block pays, as each block loads and stores the outputs.
inline int64_t key_block(int64_t head_dim) {
  return head_dim <= 96 ? 120 : 240;
}
inline int64_t pairs(int64_t count) {
  return (count + 1) / 2;
}

/// acc += a₀·b₀ + a₁·b₁. GCC 12 copies and spills the accumulators of the intrinsic, but keeps this one in
/// its register.
inline void dot(Vec& acc, __m512i a, __m512i b) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
}

/// Sixteen floats rounded to bfloat16, to nearest, ties to even.
inline __m256i to_bfloat16(Vec x) {
  return reinterpret_cast<__m256i>(_mm512_maskz_cvtneps_pbh(0xffff, x));
}

/// a and b, truncated to bfloat16, as pairs.
inline __m512i truncated_pairs(Vec a, Vec b) {
  const __m512i low = _mm512_maskz_srli_epi32(0xffff, _mm512_castps_si512(a), 16);
  return _mm512_mask_blend_epi16(0xaaaaaaaa, low, _mm512_castps_si512(b));
}

/// 2ᵗ for t ≤ 0 with a relative error below 8e-5 (our own minimax fit); 0 for −∞, NaN for NaN.
inline Vec exp2_approximate(Vec t) {
  const Vec f = _mm512_maskz_reduce_ps(0xffff, t, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);  // t − ⌊t⌋
  Vec p = fma(set1(0.0780245215f), f, set1(0.226067156f));
  p = fma(p, f, set1(0.695833564f));
  p = fma(p, f, set1(0.999925196f));
  return _mm512_maskz_scalef_ps(0xffff, p, t);  // p·2^⌊t⌋
}

struct Buffers {
  uint32_t* queries;  // [pairs of channels][kNr] words of two bfloat16
  float* outputs;     // [head_dim + 1][kNr], not yet divided by the last row
  float* highest;     // [kNr] maximum of the scores so far
  float* scores;      // [key_block][kNr], then words [pairs of keys][kNr] of probabilities in the same place
};

inline Buffers split_scratch(const AttentionArgs& args, float* p) {
  Buffers s;
  s.queries = reinterpret_cast<uint32_t*>(p);
  s.outputs = p + pairs(args.head_dim) * kNr;
  s.highest = s.outputs + (args.head_dim + 1) * kNr;
  s.scores = s.highest + kNr;
  return s;
}

int64_t scratch_floats(const AttentionArgs& args) {
  return (pairs(args.head_dim) + args.head_dim + 2 + key_block(args.head_dim)) * kNr;
}

/// How the channels (and the row of ones after them) are cut into value tiles: as evenly as possible, because
/// a tile of one or two rows is bound by loads.
struct ValueTiles {
  int64_t height, end_of_taller;
  explicit ValueTiles(int64_t head_dim) {
    const int64_t count = head_dim + 1, tiles = (count + kTileRows - 1) / kTileRows;
    height = count / tiles;
    end_of_taller = (count - tiles * height) * (height + 1);
  }
  int64_t rows(int64_t j) const { return j < end_of_taller ? height + 1 : height; }
};

// Keys are packed as [tiles of 6][pairs of channels][6] words (a last tile of fewer keys is narrower), then
// values as [tiles of channels][pairs of keys][rows of the tile] words.
int64_t packed_floats(const AttentionArgs& args) {
  return args.k_len * pairs(args.head_dim) + pairs(args.k_len) * (args.head_dim + 1);
}

/// How a tile of keys is transposed: from vectors of two rows, sixteen channels each, to packed words, where
/// the rows of a channel pair are neighbours.
struct KeyOrder {
  __m512i index[3];  // places of sixteen packed words in the vectors of rows 0…3, or in that of rows 4 and 5
  __mmask16 later[3];  // which of them are from rows 4 and 5
  explicit KeyOrder(int64_t height) {
    for (int part = 0; part < 3; ++part) {
      alignas(64) int32_t words[kLanes];
      later[part] = 0;
      for (int i = 0; i < kLanes; ++i) {
        const int64_t word = part * kLanes + i, row = word % height;
        words[i] = static_cast<int32_t>(row % 4 * 8 + word / height);
        if (row >= 4) later[part] = static_cast<__mmask16>(later[part] | 1 << i);
      }
      index[part] = _mm512_load_si512(words);
    }
  }
};

/// The n ≤ 16 channels of two rows from `row` on, as eight words each; zeros where there is no row.
inline __m512i row_words(const float* row, int64_t ld, int64_t rows, int64_t n) {
  const __m256i a = to_bfloat16(rows > 0 ? load_n(row, n) : zero()),
                b = to_bfloat16(rows > 1 ? load_n(row + ld, n) : zero());
  return _mm512_maskz_inserti64x4(0xff, _mm512_castsi256_si512(a), b, 1);
}

/// Packs the d channels of `height` keys as [pairs of channels][height] words.
void pack_key_tile(const float* keys, int64_t ldk, int64_t height, int64_t d, const KeyOrder& order,
                   uint32_t* out) {
  for (int64_t j = 0; j < d; j += kLanes) {
    const int64_t n = min(kLanes, d - j), words = pairs(n) * height;
    const __m512i a = row_words(keys + j, ldk, height, n),
                  b = row_words(keys + 2 * ldk + j, ldk, height - 2, n),
                  c = row_words(keys + 4 * ldk + j, ldk, height - 4, n);
#pragma GCC unroll 3
    for (int part = 0; part < 3; ++part) {
      const __m512i early = _mm512_maskz_permutex2var_epi32(0xffff, a, order.index[part], b),
                    all = _mm512_mask_permutexvar_epi32(early, order.later[part], order.index[part], c);
      const int64_t left = words - part * kLanes;
      if (left > 0) _mm512_mask_storeu_epi32(out + part * kLanes, first(min(kLanes, left)), all);
    }
    out += words;
  }
}

void pack(const AttentionArgs& args, int64_t batch, int64_t head, float* packed) {
  ND_ASSERT(args.k && args.v && args.k_len > 0 && args.head_dim > 0 && head < args.heads);
  ND_ASSERT(is_aligned(packed));
  const int64_t d = args.head_dim, key_words = pairs(d);
  const float* keys = args.k + batch * args.k_len * args.ldk + head * d;
  const float* values = args.v + batch * args.k_len * args.ldv + head * d;
  uint32_t* out = reinterpret_cast<uint32_t*>(packed);
  const int64_t whole = args.k_len / kTileRows * kTileRows;
  const KeyOrder order(kTileRows);
  for (int64_t t = 0; t < whole; t += kTileRows)
    pack_key_tile(keys + t * args.ldk, args.ldk, kTileRows, d, order, out + t * key_words);
  if (const int64_t height = args.k_len - whole)
    pack_key_tile(keys + whole * args.ldk, args.ldk, height, d, KeyOrder(height), out + whole * key_words);

  out += args.k_len * key_words;
  const int64_t value_pairs = pairs(args.k_len);
  const ValueTiles tiles(d);
  for (int64_t pair = 0; pair < value_pairs; ++pair) {
    const float *even = values + 2 * pair * args.ldv, *odd = even + args.ldv;
    const bool alone = 2 * pair + 1 == args.k_len;
    const __m512i ones = _mm512_set1_epi32(alone ? 0x00003f80 : 0x3f803f80);
    for (int64_t j = 0, rows; j <= d; j += rows) {
      rows = tiles.rows(j);
      const int64_t n = min(rows, d - j);
      const __m256i a = to_bfloat16(load_n(even + j, n)),
                    b = to_bfloat16(alone ? zero() : load_n(odd + j, n));
      const __m512i low = _mm512_maskz_cvtepu16_epi32(0xffff, a),
                    high = _mm512_maskz_slli_epi32(0xffff, _mm512_maskz_cvtepu16_epi32(0xffff, b), 16);
      const __mmask16 words = first(rows);
      // After the last channel, the row of ones.
      const __m512i both = _mm512_mask_mov_epi32(ones, first(n), _mm512_or_si512(low, high));
      _mm512_mask_storeu_epi32(out + j * value_pairs + pair * rows, words, both);
    }
  }
}

/// The inner loop of both products: MR rows of words times NV vectors of words, `count` deep.
template <int MR, int NV>
inline void product(const uint32_t* a, const uint32_t* b, int64_t count, Vec (&acc)[MR][NV]) {
  for (int64_t k = 0; k < count; ++k, a += MR, b += kNr) {
    // 2 KB ahead: the VAE's 512 channels of 4096 keys (8 MB) stream from memory; 46 → 85 % of the peak.
    __builtin_prefetch(a + 512);
    __m512i lanes[NV];
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      lanes[v] = _mm512_loadu_si512(b + v * kLanes);
      __builtin_prefetch(b + 256 + v * kLanes);
    }
#pragma GCC unroll 8
    for (int r = 0; r < MR; ++r) {
      const __m512i x = _mm512_set1_epi32(static_cast<int32_t>(a[r]));
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) dot(acc[r][v], x, lanes[v]);
    }
  }
}

/// Scores of MR keys. Unless a causal mask must come first, `raise` says to raise `highest` to their maxima.
template <int MR, int NV>
[[gnu::noinline]] void score_tile(const uint32_t* keys, const uint32_t* queries, int64_t depth, bool raise,
                                  float* highest, float* scores) {
  Vec acc[MR][NV];
#pragma GCC unroll 8
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) acc[r][v] = zero();
  product<MR, NV>(keys, queries, depth, acc);
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

/// Rescales MR channels of the outputs, then adds the values of `count` pairs of keys.
template <int MR, int NV>
[[gnu::noinline]] void value_tile(const uint32_t* values, const uint32_t* probabilities, int64_t count,
                                  const Vec (&rescale)[NV], float* outputs) {
  Vec acc[MR][NV];
#pragma GCC unroll 8
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) acc[r][v] = mul(load(outputs + r * kNr + v * kLanes), rescale[v]);
  product<MR, NV>(values, probabilities, count, acc);
#pragma GCC unroll 8
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) store(outputs + r * kNr + v * kLanes, acc[r][v]);
}

/// Calls call(Rows<rows>()): std::integral_constant without the standard library.
template <int N>
struct Rows {
  static constexpr int value = N;
};
template <class Call>
inline void with_rows(int64_t rows, const Call& call) {
  switch (rows) {
    case 1:
      return call(Rows<1>());
    case 2:
      return call(Rows<2>());
    case 3:
      return call(Rows<3>());
    case 4:
      return call(Rows<4>());
    case 5:
      return call(Rows<5>());
    default:
      return call(Rows<6>());
  }
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

/// The block of `count` keys from `key` on, for the panel whose first query is `query`.
template <int NV>
void attention_block(const AttentionArgs& args, const uint32_t* packed, int64_t key, int64_t count,
                     int64_t query, const Buffers& s) {
  const int64_t d = args.head_dim, depth = pairs(d);
  Vec before[NV], rescale[NV], highest[NV];
  for (int v = 0; v < NV; ++v) before[v] = load(s.highest + v * kLanes);

  // A causal block may end inside a packed tile, whose other keys are computed and masked.
  count = min((count + kTileRows - 1) / kTileRows * kTileRows, args.k_len - key);
  const bool masked = args.causal && key + count - 1 > query;
  for (int64_t t = 0; t < count; t += kTileRows)
    with_rows(min(kTileRows, count - t), [&](auto rows) {
      score_tile<decltype(rows)::value, NV>(packed + (key + t) * depth, s.queries, depth, !masked, s.highest,
                                            s.scores + t * kNr);
    });
  if (masked) mask_scores<NV>(key, count, query, s.highest, s.scores);
  if (count % 2)
    for (int v = 0; v < NV; ++v) store(s.scores + count * kNr + v * kLanes, set1(kMasked));

  for (int v = 0; v < NV; ++v) {
    highest[v] = load(s.highest + v * kLanes);
    rescale[v] = exp2_negative(sub(before[v], highest[v]));
  }
  uint32_t* const probabilities = reinterpret_cast<uint32_t*>(s.scores);
  const int64_t key_pairs = pairs(count);
  for (int64_t pair = 0; pair < key_pairs; ++pair) {
    const float* even = s.scores + 2 * pair * kNr;
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      const Vec a = exp2_approximate(sub(load(even + v * kLanes), highest[v]));
      const Vec b = exp2_approximate(sub(load(even + kNr + v * kLanes), highest[v]));
      _mm512_storeu_si512(probabilities + pair * kNr + v * kLanes, truncated_pairs(a, b));
    }
  }

  const uint32_t* values = packed + args.k_len * depth;
  const int64_t value_pairs = pairs(args.k_len);
  const ValueTiles tiles(d);
  for (int64_t j = 0, height; j <= d; j += height) {
    height = tiles.rows(j);
    with_rows(height, [&](auto rows) {
      value_tile<decltype(rows)::value, NV>(values + j * value_pairs + key / 2 * height, probabilities,
                                            key_pairs, rescale, s.outputs + j * kNr);
    });
  }
}

using AttentionBlock = void (*)(const AttentionArgs&, const uint32_t*, int64_t, int64_t, int64_t,
                                const Buffers&);
/// [vectors of queries − 1]
constexpr AttentionBlock kAttentionBlocks[] = {attention_block<1>, attention_block<2>, attention_block<3>,
                                               attention_block<4>};

/// Packs up to kNr queries, times `scale`, as words of two adjacent channels; lanes without a query are
/// zero.
void pack_queries(const float* q, int64_t ldq, int64_t count, int64_t d, float scale, uint32_t* out) {
  for (int64_t lane = 0; lane < kNr; lane += kLanes)
    for (int64_t j = 0; j < d; j += 2 * kLanes) {
      Vec block[kLanes];
      const int64_t left = min(2 * kLanes, d - j);
      for (int r = 0; r < kLanes; ++r) {
        block[r] = zero();
        if (lane + r >= count) continue;
        const float* row = q + (lane + r) * ldq + j;
        const Vec low = mul(load_n(row, min(left, kLanes)), set1(scale));
        const Vec high = left > kLanes ? mul(load_n(row + kLanes, left - kLanes), set1(scale)) : zero();
        block[r] = _mm512_castsi512_ps(
            _mm512_maskz_inserti64x4(0xff, _mm512_castsi256_si512(to_bfloat16(low)), to_bfloat16(high), 1));
      }
      transpose(block);
      for (int64_t i = 0; i < pairs(left); ++i)
        store(reinterpret_cast<float*>(out + (j / 2 + i) * kNr + lane), block[i]);
    }
}

void attention(const AttentionArgs& args, int64_t batch, int64_t head, int64_t q0, int64_t q1,
               const float* packed, float* scratch) {
  ND_ASSERT(args.q && args.out && args.k_len > 0 && args.head_dim > 0 && head < args.heads);
  ND_ASSERT(0 <= q0 && q0 <= q1 && q1 <= args.q_len);
  ND_ASSERT(is_aligned(packed) && is_aligned(scratch));
  const int64_t d = args.head_dim, block_keys = key_block(d);
  const Buffers s = split_scratch(args, scratch);
  const float* q = args.q + batch * args.q_len * args.ldq + head * d;
  float* out = args.out + batch * args.q_len * args.ldo + head * d;
  for (int64_t first_query = q0; first_query < q1; first_query += kNr) {
    const int64_t count = min(kNr, q1 - first_query);
    pack_queries(q + first_query * args.ldq, args.ldq, count, d, args.scale * kLog2E, s.queries);
    for (float* p = s.outputs; p != s.highest; p += kLanes) store(p, zero());
    for (int v = 0; v < kTileVecs; ++v) store(s.highest + v * kLanes, set1(kMasked));

    const int64_t keys = args.causal ? min(args.k_len, first_query + count) : args.k_len;
    for (int64_t key = 0; key < keys; key += block_keys)
      kAttentionBlocks[(count - 1) / kLanes](args, reinterpret_cast<const uint32_t*>(packed), key,
                                             min(block_keys, keys - key), first_query, s);

    for (int v = 0; v < kTileVecs; ++v) {
      const Vec inverse = div(set1(1.0f), load(s.outputs + d * kNr + v * kLanes));
      for (int64_t j = 0; j < d; ++j) {
        float* o = s.outputs + j * kNr + v * kLanes;
        store(o, mul(load(o), inverse));
      }
    }
    transpose_matrix(s.outputs, kNr, d, count, 1.0f, out + first_query * args.ldo, args.ldo);
  }
}

}  // namespace
}  // namespace nd::cpu::ND_ISA

namespace nd::cpu {
constexpr AttentionKernel avx512_bf16_attention = {
    bf16_attention_avx512::packed_floats, bf16_attention_avx512::pack, bf16_attention_avx512::scratch_floats,
    bf16_attention_avx512::attention};
}  // namespace nd::cpu
