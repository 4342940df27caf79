// Kernel arguments, shared by host and device code: each kernel takes one of these structs. Tensors are
// [n][h][w][c], row-major, in half precision unless a comment says otherwise. Sums are float32.
#pragma once
#ifdef __CUDACC__
#include <cuda_fp16.h>
#ifdef __CUDACC_RTC__
using uint16_t = unsigned short;
using uint32_t = unsigned;
using int32_t = int;
using uint64_t = unsigned long long;
using int64_t = long long;
#else
#include <stdint.h>
#endif
#elif !defined(ND_CUDA_EMULATED_KERNELS)  // otherwise the tests have already included their emulator
#include <cstdint>
// NOLINTNEXTLINE(bugprone-reserved-identifier): CUDA's name
struct __half;  // the host never dereferences these pointers
using half = __half;
#endif

namespace nd::cuda {

// --- products: linear layers and convolutions ---

/// The values of nd::Activation, in the same order.
enum class ProductActivation : int32_t { none, silu, gelu, quick_gelu, geglu, relu };

/// y = x ∗ weights as an implicit GEMM. Rows of the product are pixels of a grid [n][grid_h][grid_w], columns
/// are output channels, and each sum runs over taps and channels.
struct ProductArgs {
  const half* x;           // [n][h][w][c], or without the last `second_c` channels
  const half* second;      // the last `second_c` channels, a tensor of their own; null where there are none
  const half* weights;     // [o][chunks][8]: the channels of each tap, zero-padded to a multiple of 8
  const float* bias;       // [o] padded to a multiple of 8, or null
  const half* image_bias;  // one row for each image, `image_bias_stride` apart, or null
  const half* residual;    // as y, or null; may be y itself
  half* y;
  float* partial;  // split-K sums [splits][m][columns of y before GEGLU, padded to a multiple of 8]
  /// Null, or where the moments of y are put, [n][moment_pieces][3][y_columns], see MomentsArgs. A piece is a
  /// tile of y, so tiles may not cross images. Not with GEGLU.
  float* moments;

  int32_t m, o;                 // rows and columns of the product
  int32_t span;                 // rows of the product, at each multiple of which a tile begins
  int32_t moment_pieces;        // of one image
  int32_t c, chunks;            // channels of x and the second tensor; chunks of 8 in each sum
  int32_t second_c;             // a multiple of 8; the first tensor's are whole steps. Pointwise only
  int32_t weights_chunks;       // from one row of the weights to the next
  int32_t grid_w, grid_pixels;  // of one image
  int32_t h, w, stride;
  int32_t pad_y,
      pad_x;  // tap (0, 0) of grid pixel (gy, gx) lies at (gy · stride − pad_y, gx · stride − pad_x)
  int32_t kernel_w;  // taps are numbered row by row
  /// Grid pixel (gy, gx) is pixel (gy · out_step + out_y, gx · out_step + out_x) of y, if it lies inside.
  int32_t out_h, out_w, out_step, out_y, out_x;
  int32_t
      parities;  // 4: an upsampling convolution; parity p adds (p / 2, p % 2) to out_y, out_x, −pad_y, −pad_x
  int32_t splits, split_steps;  // of the sum; steps of kProductK in each
  int32_t y_columns;            // channels of y
  int32_t image_bias_stride;
  float alpha;  // of the product, before the bias
  ProductActivation activation;
  int32_t relu_after_residual;
  int32_t constant_weights;  // no kernel writes them, so that they may be read while the previous kernel runs
};

/// Room for a CUtensorMap, which says where a tensor lies and which box of it is copied at a time.
struct alignas(64) TensorMapBytes {
  uint64_t opaque[16];
};

/// A product by tensor copies and wgmma (Hopper). Its grid is one of images × rows × columns of pixels, with
/// a stride of 1, and is cut into boxes of kHopperRows pixels; a linear layer's is one row.
struct HopperProductArgs {
  TensorMapBytes x;        // [n][h][w][c]; a box has kHopperK channels
  TensorMapBytes second;   // the last channels, where a second tensor has them
  TensorMapBytes weights;  // [parities · o][taps][c padded to 8]
  ProductArgs product;     // splits are in steps of kHopperK, see below
  int32_t images, grid_h, grid_w;
  int32_t box_h, box_w;          // the rest of a box is images
  int32_t boxes_h, boxes_w;      // of an image
  int32_t steps, steps_per_tap;  // of the whole sum; its last step of a tap may have fewer channels
  int32_t first_steps;           // of a tap, before those of the second tensor
};
constexpr int kHopperK = 64, kHopperRows = 128, kHopperThreads = 288;
struct HopperTile {
  int columns, stages, blocks;  // blocks: that a multiprocessor runs side by side
  constexpr int shared_bytes() const { return stages * ((kHopperRows + columns) * kHopperK * 2 + 16) + 8; }
};
constexpr HopperTile kHopperTiles[] = {{128, 3, 2}, {256, 4, 1}, {160, 5, 1}};

/// A block's tile of y. The constants below are in order of preference for large products.
struct ProductTile {
  int m, n, warps_m, warps_n, stages;
  constexpr int threads() const { return warps_m * warps_n * 32; }
};
constexpr int kProductK = 32;
constexpr ProductTile kLargeTile{128, 128, 2, 4, 3}, kNarrowTile{128, 64, 2, 2, 3},
    kSmallTile{64, 64, 2, 2, 4}, kSquareTile{128, 128, 2, 2, 3};
constexpr int product_shared_bytes(const ProductTile& tile) {
  return tile.stages * (tile.m + tile.n) * kProductK * 2;
}
constexpr int kFinishThreads = 128;

// --- products of int8 ---

// Each 64 channels of a pixel are int8 codes with a scale, and each 32 weights of a row. An s32 sum of 32
// products that starts from the bits of 1.5 · 2²³ is, read as a float, 1.5 · 2²³ plus that sum, exactly, as
// long as the sum is below 2²²: so a subtraction makes a float of it, where a conversion would take eight
// times as long.
constexpr uint32_t kInt8Origin = 0x4b400000;
constexpr int kInt8Block = 32, kInt8K = 64;  // of the weights' scales; of a step

/// Activations as int8: codes [pixels][c], c being a multiple of kInt8K, and scales [pixels][c / kInt8K].
/// Scales of channels of which one is a NaN or an infinity are NaN.
struct Int8Rows {
  signed char* codes;
  float* scales;
};

/// Halves → codes and scales.
struct QuantizeArgs {
  const half* x;
  Int8Rows y;
  int64_t total;  // chunks of eight channels
};

struct Int8ProductArgs {
  ProductArgs product;   // without its x and weights; splits are in steps of kInt8K
  const signed char* x;  // see Int8Rows
  const float* x_scales;
  const signed char* weights;     // [rows][taps][c]; with GEGLU the rows of all values come first
  const uint32_t* weight_scales;  // [rows][taps · c / kInt8K]: two halves
};
constexpr ProductTile kInt8Tiles[] = {{64, 64, 2, 2, 3}, {128, 64, 2, 2, 3}, {128, 128, 2, 4, 3}};
constexpr int kInt8TileCount = sizeof kInt8Tiles / sizeof kInt8Tiles[0];
constexpr int kInt8Taps = 32;  // at most, see product_int8()
constexpr int int8_shared_bytes(const ProductTile& tile) {
  return tile.stages * (tile.m + tile.n) * (kInt8K + 4);
}

// --- attention ---

constexpr int kAttentionImages = 32;
constexpr int kAttentionThreads = 128;

struct AttentionArgs {
  const half* q;                       // of the first image
  const half* keys[kAttentionImages];  // of each image; values start v_offset later
  half* out;                           // of the first image
  int64_t q_image, out_image;          // elements from one image to the next
  int64_t v_offset;                    // exceeds 32 bits where values of a batch follow all of its keys
  int32_t ldq, ldk, ldo;
  int32_t q_length, k_length, head_dim;
  int32_t slices;           // of the values' columns (wide heads only)
  float scale;              // 1/√head_dim · log₂e
  int32_t causal, aligned;  // aligned: all rows of all heads begin at multiples of 16 bytes
};

/// Self-attention by tensor copies and wgmma (Hopper). The maps are of [images][length][heads][head_dim];
/// boxes have 64 elements of one head.
struct HopperAttentionArgs {
  TensorMapBytes q, keys, values;
  AttentionArgs attention;  // its keys are not used
};
struct HopperAttentionShape {
  int dim, keys, blocks;
  constexpr int boxes() const { return (dim + 63) / 64; }
  /// Queries, and two stages of keys and values; nine barriers.
  constexpr int shared_bytes() const { return (kHopperRows + 4 * keys) * boxes() * 128 + 9 * 8; }
};
constexpr HopperAttentionShape kHopperAttentionShapes[] = {
    {40, 64, 2}, {64, 64, 2}, {80, 64, 1}, {128, 64, 1}, {160, 64, 1}};

/// Maximum head dimension (a multiple of 8), keys per step, a warp's queries in multiples of 16, and the
/// blocks that a multiprocessor runs side by side. With 32 queries a warp reads keys and values half as often
/// from shared memory; larger heads have no registers for the sums of so many.
struct AttentionShape {
  int dim, keys, rows, blocks;
  /// An odd number of 16 bytes: no bank conflicts for ldmatrix.
  constexpr int pitch() const { return dim % 16 ? dim : dim + 8; }
  constexpr int queries() const { return 64 * rows; }
  /// Two stages of keys and values. Queries are in the second one before the first step.
  constexpr int shared_bytes() const { return 4 * keys * pitch() * 2; }
};
constexpr AttentionShape kAttentionShapes[] = {
    {40, 64, 2, 3}, {64, 64, 2, 2}, {80, 64, 2, 2}, {128, 32, 1, 2}, {160, 32, 1, 2}};

/// Heads of any size: a block has 64 queries and up to kWideSlice columns of the output, kWideChunk columns
/// of the head and 16 rows of values at a time.
constexpr int kWideChunk = 64, kWideKeys = 64, kWideSlice = 512, kWideQueries = 64, kWideThreads = 256,
              kWideStages = 3;
/// Chunks in a ring, weights, and what the warps of a row tell each other of it.
constexpr int kWideSharedBytes =
    (kWideStages * (kWideQueries + kWideKeys) + kWideQueries) * (kWideChunk + 8) * 2 + 4 * kWideQueries * 4;
static_assert(kWideSharedBytes <= 64 * 1024, "Turing has no more");

// --- normalization ---

/// Moments are count, mean and Σ(x − mean)² of each channel: [3][c] float32. Those of an image are of pieces,
/// whichever pixels these have.
constexpr int kMomentRows = 256, kMomentChannels = 64, kMomentThreads = 256;
struct MomentsArgs {
  const half* x;   // [n][pixels][c]
  float* moments;  // [n][pieces][3][c]
  int32_t pixels, c, pieces;
};
constexpr int kMomentsSharedBytes = 32 * kMomentChannels * 2 * 4;
constexpr int kFinishMomentsSharedBytes = kFinishThreads * 8 * 2 * 4;

/// Merges moments [pieces][3][c] into total [3][c].
struct MergeMomentsArgs {
  float* total;
  const float* moments;
  int32_t c, pieces, first;  // first: total holds nothing yet
};

/// Channels of what is normalized, and their moments.
struct NormInput {
  const half* x;         // [n][pixels][c]
  const float* moments;  // [n][pieces][3][c]
  int32_t c, pieces;
};

/// The channels of one tensor after those of another. Where there is one, the second has none.
struct NormInputs {
  NormInput first, second;
};

constexpr int kFactorThreads = 128;
struct GroupFactorsArgs {
  NormInputs x;  // their moments
  const float *gamma, *beta;
  float* factors;  // [n][2][c]: scales, then shifts
  int32_t c, groups;
  float eps;
};
constexpr int kGroupFactorsSharedBytes = 3 * 4 * 4;

// The kernels below whose names end with int8 write the halves that the others would write to y as int8.

/// y = x · scale + shift for each channel of each image, followed by SiLU if `silu` is set.
struct AffineArgs {
  NormInputs x;          // without moments
  const float* factors;  // [n][2][c]
  half* y;
  int64_t image, total;  // elements of one image and of the batch
  int32_t c, silu;
  Int8Rows int8;
};

/// Both in one: each block combines the moments that it needs. It has `slice` channels, at most
/// kNormChannels, of `rows` pixels; where channels are multiples of 8, or of kInt8K for int8, so are a
/// slice's.
constexpr int kNormThreads = 256, kNormChannels = 512;
struct GroupNormArgs {
  NormInputs x;
  const float *gamma, *beta;
  half* y;
  int32_t pixels, c, groups, slice, rows;
  float eps;
  int32_t silu;
  Int8Rows int8;
};
constexpr int kGroupNormSharedBytes = 2 * kNormChannels * 4;

/// x · scale + shift of `factors`, then · (1 + scale) + shift of the image's modulations, through GELU.
struct ModulateArgs {
  NormInputs x;             // without moments
  const float* factors;     // [n][2][c]
  const half* modulations;  // [n][…], c scales, then c shifts
  half* y;
  int64_t image, total;  // elements of one image and of the batch
  int32_t c, modulation_row, gelu;
};

struct LayerNormArgs {
  const half* x;
  const float *gamma, *beta;
  half* y;
  int32_t rows, c;
  float eps;
  Int8Rows int8;
};

// --- copies and lookups ---

constexpr int kMoveThreads = 256;

/// Concatenates the channels of a and b.
struct ConcatArgs {
  const half *a, *b;
  half* y;
  int64_t rows;
  int32_t a_channels, b_channels;
};

/// y += factor · x, or y = factor · x with `replaces`; `count` elements, or eights of them with `vector`.
/// With a mask [pixels], which repeats, the factor of a row of `row` elements, or eights, is multiplied by
/// its own.
struct AddArgs {
  const half* x;
  half* y;
  int64_t count;
  float factor;
  int32_t replaces, vector;
  const half* mask;  // or null
  int32_t row, pixels;
};

/// Means of squares of 2 × 2 pixels, [n][h][w][c] → [n][⌈h/2⌉][⌈w/2⌉][c], which has `count` elements.
struct PoolArgs {
  const half* x;
  half* y;
  int64_t count;
  int32_t h, w, c;
};

/// [n][h][w][c] → twice or half the size, by k-diffusion's fixed filter.
struct ResampleArgs {
  const half* x;
  half* y;
  int64_t count;  // of y
  int32_t h, w, c;
  int32_t twice;
};

/// [n][c][pixels] float32 → [n][pixels][pitch] of x · scale + shift, of which c are written, or back.
constexpr int kTransposeTile = 32, kTransposeThreads = 256;
constexpr int kTransposeSharedBytes = kTransposeTile * (kTransposeTile + 1) * 4;
struct PlanarArgs {
  float* planes;
  half* rows;
  int32_t c, pixels, pitch;
  float scale, shift;
};

/// Stores `rows` rows of `count` elements, `pitch` bytes apart, as float32 or in half precision.
struct StoreArgs {
  half* x;
  unsigned char* stored;
  int64_t pitch;
  int32_t rows, count, fp16;
};

// --- the arithmetic of a denoising step ---

/// Operations on float32 tensors of `count` elements, one after the other, see ResidentOperation. Where a
/// prediction is not finite, `mark` is put into checks[0] if it is greater; where latents are not, into
/// checks[1].
constexpr int kStepTerms = 8, kStepOperations = 8;
enum class StepKind : int32_t { combine, guide, clamp, blend, edit };
enum class StepCheck : int32_t { nothing, prediction, latents };
struct StepTerm {
  const float* x;
  double factor;
};
struct StepOperation {
  float* y;
  StepKind kind;
  StepCheck check;
  int32_t terms;
  StepTerm term[kStepTerms];
};
struct StepArgs {
  int64_t count;
  uint32_t* checks;
  uint32_t mark;
  int32_t operations;
  StepOperation operation[kStepOperations];
};

/// Moves the standard deviation of each image of `guided`, of `count` elements, towards that of
/// `conditional`.
constexpr int kRescaleThreads = 512, kRescaleSharedBytes = kRescaleThreads * 8;
struct RescaleArgs {
  const float *conditional, *guided;
  float* y;
  int64_t count;
  double rescale;
};

// --- token merging ---

/// inverse[i] = 1/‖x[i]‖; 0 where that is not finite.
struct MergeLengthsArgs {
  const half* x;
  float* inverse;
  int32_t rows, c;
};

/// For each token of x [n][h][w][c] that is a source, the destination with the highest cosine. Elements of
/// tokens that are destinations are left as they are.
constexpr int kMergeThreads = 128, kMergeTile = 64, kMergeChannels = 64;
constexpr int kMergePitch = kMergeChannels + 8;  // no bank conflicts for ldmatrix
constexpr int kMergeSharedBytes = 4 * kMergeTile * kMergePitch * 2;
struct MergeMatchArgs {
  const half* x;
  const float* inverse;  // of each token
  float* similarity;     // [n][h·w]
  int32_t* best;         // [n][h·w] tokens of the same image
  int32_t h, w, c;
};

/// Merges the `merged` most similar sources of each image; of equals the first ones.
constexpr int kMergeAssignThreads = 256;  // as many as a digit of a key has values
constexpr int kMergeAssignSharedBytes = (kMergeAssignThreads + kMergeAssignThreads / 32 + 2) * 4;
struct MergeAssignArgs {
  const float* similarity;
  const int32_t* best;
  int32_t* row;   // [n][h·w]: the row that each token becomes a part of
  int32_t* kept;  // [n][h·w − merged]: the token that was not merged, of each row
  int32_t h, w, merged;
};

/// x [n][h][w][c] → y [n][tokens][c]: the means of each row's tokens.
struct MergeMeansArgs {
  const half* x;
  const int32_t *row, *kept;
  half* y;
  int32_t h, w, c, tokens;
};

/// Adds to each of `count` tokens of x the row of `merged` [n][tokens][c] that it became a part of.
struct UnmergeArgs {
  const half* merged;
  const int32_t* row;
  half* x;
  int32_t count, pixels, tokens, c;
};

// --- quantized weights ---

/// The quantized values of nd::TensorType, in the same order.
/// Then floats of one byte, with a factor for each stored tensor; and q8_0 whose codes lie apart from their
/// scales.
enum class BlockType : int32_t {
  q8_0,
  q5_0,
  q5_1,
  q4_0,
  q4_1,
  q6_k,
  q5_k,
  q4_k,
  q3_k,
  q2_k,
  f8_e4m3,
  f8_e5m2,
  q8_apart
};

/// Stored rows of blocks → a product's weights [planes][rows][chunks][8], see ProductArgs::weights.
struct DecodeArgs {
  const unsigned char* blocks;  // [stored_rows] of in · stored_taps elements
  half* out;
  int64_t total;  // chunks of all rows
  BlockType type;
  int32_t block_elements, block_bytes;
  int32_t rows, chunks;  // of one plane as it is packed
  int32_t stored_rows, in, stored_taps;
  int32_t geglu;          // eight values and their eight gates take turns
  int32_t channels_last;  // elements of a row are [taps][in], otherwise [in][taps]
  int32_t folded;         // nine taps become four, in four planes
  const float* scales;    // of f8: one for each `scale_rows` stored rows
  int32_t scale_rows;
  const half* block_scales;  // of q8_apart
};

/// y[i] = table[ids[i]], or y[i] += table[ids[i]].
struct GatherArgs {
  const half* table;
  const int32_t* ids;
  half* y;
  int32_t count, width, add;
};

/// codes[i] = argmin over e of ‖x[i] − table[e]‖²; ties go to the first.
struct NearestArgs {
  const half* x;
  const float* table;  // [size][width]
  int32_t* codes;
  int32_t count, size, width;
};

}  // namespace nd::cuda
