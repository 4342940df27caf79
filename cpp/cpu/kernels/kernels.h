// The table of kernels that the CPU's layers are made of, with the contract of each. Kernels know nothing of
// layers, models or threads: each works on a range of rows or panels and is called from the tasks of the
// thread pool.
//
// Conventions: activations are float32, NHWC, row-major; a "row" is one pixel (or token) of c channels.
// Pointers to activations are 64-byte aligned at the start of a tensor, not at the start of each row. No
// kernel allocates memory. Results do not depend on how a range is cut: [0, m) gives the same bits as [0, j)
// and [j, m). Buffers do not overlap unless a kernel allows it. Preconditions are asserted in builds without
// NDEBUG.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/float_decoders.h"
#include "nn/compute.h"

namespace nd::cpu {

struct ReducedGemm;

/// A contiguous run of the inner dimension: `length` floats that begin `offset` floats after the start of a
/// row. A linear layer has one; a 3×3 convolution over a padded NHWC band has three (kx and c are
/// contiguous).
struct KRun {
  int64_t offset;
  int64_t length;
};

/// The left operand, A. Row i is the concatenation of the runs, each read from
/// data + (row_offset ? row_offset[i] : i·ld).
struct GemmLhs {
  const float* data = nullptr;
  const int64_t* row_offset = nullptr;  // [m] or null
  int64_t ld = 0;
  const KRun* runs = nullptr;  // their lengths sum to k
  int64_t run_count = 0;
};

/// The right operand, B: ⌈n/nr⌉ panels of k·nr floats as pack_panel writes them, 64-byte aligned. Column j of
/// the product belongs to panel j / nr.
struct GemmRhs {
  const float* panels = nullptr;
};

/// What happens to a sum before it is stored, in this order: + bias[j], + image_bias[image][j] where
/// image = i / rows_per_image, activation, × scale, + residual.
///
/// GEGLU: a panel holds nr/2 value columns, then the nr/2 gate columns that belong to them. A last panel of w
/// < nr columns holds w/2 of each (n is even), so that column j of the packed order is always slot j % nr of
/// panel j / nr. C has n/2 columns, value · gelu(gate). The caller permutes the bias in the same way;
/// image_bias must be null.
struct GemmEpilogue {
  float* c = nullptr;
  const int64_t* c_offset = nullptr;  // [m] start of each output row in c, or null: i·ldc
  int64_t ldc = 0;
  const float* bias = nullptr;        // [n] or null
  const float* image_bias = nullptr;  // [images][image_bias_stride] or null
  int64_t image_bias_stride = 0;
  int64_t rows_per_image = 1;
  const float* residual = nullptr;           // rows of n floats (n/2 for GEGLU) or null; may be c itself
  const int64_t* residual_offset = nullptr;  // [m] or null: i·ldr
  int64_t ldr = 0;
  Activation activation = Activation::none;  // gelu by erf, |error| ≤ 2e-7·max(1, |x|)
  float scale = 1.0f;
};

/// C = epilogue(A·Bᵀ), where A is m×k and B is n×k.
struct GemmArgs {
  int64_t m = 0, n = 0, k = 0;
  GemmLhs lhs;
  GemmRhs rhs;
  GemmEpilogue epilogue;
};

/// out = softmax(scale·q·kᵀ)·v for each batch and head, of which only a block of scores exists at a time. Row
/// t of head h of batch b begins at q + (b·q_len + t)·ldq + h·head_dim; likewise k and v with k_len, and out
/// with q_len. causal: query t sees keys 0…t. Any head_dim, q_len and k_len ≥ 1 (head_dim of 3, 40, 64, 80,
/// 160 and 512 occur).
struct AttentionArgs {
  const float *q = nullptr, *k = nullptr, *v = nullptr;
  float* out = nullptr;
  int64_t ldq = 0, ldk = 0, ldv = 0, ldo = 0;
  int64_t batch = 1, heads = 1, head_dim = 0, q_len = 0, k_len = 0;
  float scale = 1.0f;
  bool causal = false;
};

/// Attention of one (batch, head): keys and values are packed once, then read by blocks of queries. `packed`
/// and `scratch` are 64-byte aligned.
struct AttentionKernel {
  /// Floats that `pack` writes.
  int64_t (*packed_floats)(const AttentionArgs& args);
  /// Packs keys and values into the layout that `run` reads.
  void (*pack)(const AttentionArgs& args, int64_t batch, int64_t head, float* packed);
  /// Floats of scratch that a call of `run` needs, whatever k_len.
  int64_t (*scratch_floats)(const AttentionArgs& args);
  /// Queries [q0, q1).
  void (*run)(const AttentionArgs& args, int64_t batch, int64_t head, int64_t q0, int64_t q1,
              const float* packed, float* scratch);
};

/// The last step of a Winograd convolution: transforms the products to 2×2 output pixels, + bias, +
/// image_bias, + residual, then ReLU if `relu`.
struct WinogradOutput {
  const float* products = nullptr;  // [16][tiles][ld]
  int64_t tiles = 0, ld = 0;
  int64_t columns = 0;              // channels of this call, at most one panel
  const int64_t* offset = nullptr;  // [tiles] the top left pixel of each tile, in c and in residual
  const uint8_t* valid = nullptr;   // [tiles] bit 2y+x: that pixel lies inside the image
  int64_t pixel = 0, row = 0;       // floats from a pixel to its right and its lower neighbor
  float* c = nullptr;
  const float* residual = nullptr;    // as c, or null
  const float* bias = nullptr;        // [columns] or null
  const float* image_bias = nullptr;  // [columns] or null
  bool relu = false;
};

// NOLINTNEXTLINE(cppcoreguidelines-pro-type-member-init): every table is initialized whole
struct Kernels {
  const char* name;  // "avx512", "avx2-vnni", "avx2", "neon-i8mm", "neon-dotprod", "neon", "ref"
  int64_t nr;        // columns in one weight panel

  // --- matrix products ---
  /// Packs up to nr weight rows of k floats into one panel, [k][nr]; rows from `count` on become zeros.
  void (*pack_panel)(const float* const* rows, int64_t count, int64_t k, float* panel);
  /// Computes rows [m0, m1) × panels [p0, p1). NaN and infinity propagate as in IEEE arithmetic.
  void (*gemm)(const GemmArgs& args, int64_t m0, int64_t m1, int64_t p0, int64_t p1);

  AttentionKernel attention;

  // --- normalization ---
  /// Mean and Σ(x−mean)² of each channel over `rows` rows, without cancellation (shifted by the first row).
  void (*channel_moments)(const float* x, int64_t rows, int64_t c, float* mean, float* m2);
  /// out[r][j] = f(x[r][j]·scale[j] + shift[j]), f = SiLU if `silu`, else identity. scale and shift are both
  /// null (1 and 0) or both given. Rows of out are c floats apart; out may be x.
  void (*affine_rows)(const float* x, int64_t rows, int64_t c, const float* scale, const float* shift,
                      bool silu, float* out);
  /// Layer normalization over the last dimension, biased variance; out may be x.
  void (*layer_norm)(const float* x, int64_t rows, int64_t c, const float* gamma, const float* beta,
                     float eps, float* out);

  // --- elementwise and layout ---
  /// x[i] = f(x[i]) in place, for every Activation except geglu.
  void (*activate)(float* x, int64_t count, Activation f);
  /// out = a + b; out may be a or b.
  void (*add)(const float* a, const float* b, int64_t count, float* out);
  /// [c][pixels] → [pixels][c] of one image, and back.
  void (*planar_to_rows)(const float* x, int64_t c, int64_t pixels, float* out);
  void (*rows_to_planar)(const float* x, int64_t c, int64_t pixels, float* out);
  /// fp16 and bfloat16 to float32, and sums of adapters' rows, for loading weights.
  FloatDecoders decoders;

  // --- Winograd's F(2×2, 3×3) (Lavin & Gray 2016), null in the reference ---
  /// BᵀdB of 4×4 tiles of c channels. Tile t begins at x + offset[t]; its pixels are c floats apart, its rows
  /// `row`. out: [16][tiles][padded] floats, of which channels from c on are not written.
  void (*winograd_input)(const float* x, const int64_t* offset, int64_t tiles, int64_t c, int64_t row,
                         int64_t padded, void* out) = nullptr;
  void (*winograd_output)(const WinogradOutput& args) = nullptr;

  // --- reduced precision (reduced_gemm.h), null where it is not faster on this CPU ---
  const ReducedGemm* bf16 = nullptr;
  const ReducedGemm* i8 = nullptr;
  const ReducedGemm* i16 = nullptr;
  const AttentionKernel* bf16_attention = nullptr;  // products in bfloat16, softmax and sums in float32
};

/// The tables that this CPU can run, best first; the last one is always the scalar reference. `count`
/// receives how many there are.
const Kernels* const* available_kernels(int* count);

/// The table that every CPU of this architecture has, but for old x86 CPUs without AVX2: error
/// device_unavailable. Its bits are the same on all of them.
const Kernels& portable_kernels();

/// The best available table, or the one that the environment variable NODE_DIFFUSION_KERNELS names; an
/// unknown or unsupported name is an nd::Error that lists the possible ones. Chosen once per process.
const Kernels& best_kernels();

}  // namespace nd::cpu
