// The layers that models are made of, as a backend implements them. This is the device interface: a model is
// written against these classes and the operations of Backend, and Loader makes them from stored weights.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "nn/compute.h"
#include "nn/joined_tensor.h"
#include "nn/precision.h"
#include "nn/tensor.h"

namespace nd {

/// What is fused into the end of a product, in this order: + bias, + image_bias, activation, + residual.
struct Epilogue {
  const Tensor* residual = nullptr;  // same shape as the output
  /// One vector per image, added to every pixel (the timestep embedding): [n][1][1][…], of which the layer's
  /// channels begin at `image_bias_channel`.
  const Tensor* image_bias = nullptr;
  int64_t image_bias_channel = 0;
  Activation activation = Activation::none;
  bool relu_after_residual = false;  // convolutions only
};

struct LinearOptions {
  bool bias = true;
  Role role = Role::hidden;
  /// The stored rows are values, then gates (as torch's chunk(2)); the output has half as many columns.
  bool geglu = false;
  /// The matrix is stored [in][out]. It is held in float32 beside its packed form where weights are streamed.
  bool transposed = false;
  /// A group normalization takes the output: a backend can have its statistics taken while it is written.
  bool feeds_group_norm = false;
};

class GroupNorm;
class LayerNorm;

/// y = x·Wᵀ + b over the last dimension.
class Linear {
 public:
  virtual ~Linear() = default;
  /// x: [n][h][w][in] → [n][h][w][out]
  virtual Tensor forward(ForwardContext& ctx, const Tensor& x, const Epilogue& epilogue = {}) const = 0;
  /// The same of norm(x), which a backend can fuse.
  virtual Tensor forward_normed(ForwardContext& ctx, const GroupNorm& norm, const Tensor& x) const;
  /// That of x, written over x (out ≤ in): for activations of which two copies would be too much.
  virtual Tensor forward_in_place(ForwardContext& ctx, Tensor x) const = 0;
};

/// Two linear layers with a gated activation between them (Shazeer 2020).
class FeedForward {
 public:
  virtual ~FeedForward() = default;
  /// x += out(geglu(in(normed))). The activations between the two layers are several times as wide as x.
  virtual void add_to(ForwardContext& ctx, const Tensor& normed, const Tensor& x) const = 0;
  /// The same with norm(x) as `normed`, which a backend can fuse.
  virtual void add_normed_to(ForwardContext& ctx, const LayerNorm& norm, const Tensor& x) const;
};

/// Moments of each channel of one image, of which a band at a time is seen.
class ChannelMoments {
 public:
  virtual ~ChannelMoments() = default;
  /// Rows [first, first + rows) of x: [1][h][w][c].
  virtual void add(ForwardContext& ctx, const Tensor& x, int64_t first, int64_t rows) = 0;
};

/// Group normalization (Wu & He 2018), biased variance as in PyTorch.
class GroupNorm {
 public:
  virtual ~GroupNorm() = default;
  /// The normalization of x in the form that Conv2d::forward_with takes.
  virtual Tensor affine(ForwardContext& ctx, const Tensor& x) const = 0;
  /// The same for the image that these are the moments of.
  virtual Tensor affine(ForwardContext& ctx, const ChannelMoments& image) const = 0;
  /// The normalized x itself, through SiLU when `silu`.
  virtual Tensor forward(ForwardContext& ctx, const Tensor& x, bool silu = false) const = 0;
  /// The normalized x · (1 + scale) + shift, with scales and shifts of each image, through the activation:
  /// none or gelu. modulations: [n][1][1][…], of which c scales begin at `first_channel`, and c shifts follow
  /// them.
  virtual Tensor modulated(ForwardContext& ctx, const Tensor& x, const Tensor& modulations,
                           int64_t first_channel, Activation activation) const = 0;
  /// The same two of a joined tensor, which these concatenate; see Backend::reads_joined().
  virtual Tensor forward_joined(ForwardContext& ctx, const JoinedTensor& x, bool silu) const {
    return forward(ctx, x.concatenated(ctx), silu);
  }
  virtual Tensor modulated_joined(ForwardContext& ctx, const JoinedTensor& x, const Tensor& modulations,
                                  int64_t first_channel, Activation activation) const {
    return modulated(ctx, x.concatenated(ctx), modulations, first_channel, activation);
  }
};

/// Layer normalization (Ba et al. 2016) over the last dimension.
class LayerNorm {
 public:
  virtual ~LayerNorm() = default;
  virtual Tensor forward(ForwardContext& ctx, const Tensor& x) const = 0;
};

struct Conv2dOptions {
  int kernel = 3;  // square
  int stride = 1;
  int pad_before = 1;  // top and left
  int pad_after = 1;   // bottom and right (the KL encoder pads 0 and 1)
  /// Nearest-neighbour 2× upsampling before a 3×3 convolution. Backends fold the two into four 2×2
  /// convolutions, which is exact and takes 2.25 times less work.
  bool upsample = false;
  bool bias = true;
  Role role = Role::hidden;
  /// The input, or the output and what is added to it, are wide: too large for half precision in some models.
  /// They are multiples of Backend::wide_unit(), which the convolution accounts for.
  bool wide_input = false, wide_output = false;
  /// A group normalization takes the output: a backend can have its statistics taken while it is written.
  bool feeds_group_norm = false;

  static Conv2dOptions pointwise() {
    Conv2dOptions options;
    options.kernel = 1;
    options.pad_before = options.pad_after = 0;
    return options;
  }
};

class Conv2d {
 public:
  Conv2d(int64_t in, int64_t out, const Conv2dOptions& options) : options_(options), in_(in), out_(out) {}
  virtual ~Conv2d() = default;
  const Conv2dOptions& options() const { return options_; }
  int64_t in() const { return in_; }
  int64_t out() const { return out_; }

  /// x: [n][h][w][in] → [n][h'][w'][out]. With `norm`, the layer convolves SiLU(norm(x)).
  virtual Tensor forward(ForwardContext& ctx, const Tensor& x, const GroupNorm* norm = nullptr,
                         const Epilogue& epilogue = {}) const = 0;
  /// The same of a joined tensor, which this concatenates; see Backend::reads_joined().
  virtual Tensor forward_joined(ForwardContext& ctx, const JoinedTensor& x) const {
    return forward(ctx, x.concatenated(ctx));
  }
  /// That of SiLU(norm(x)) of a joined tensor, which is released once it has been read.
  virtual Tensor forward_joined_normed(ForwardContext& ctx, JoinedTensor x, const GroupNorm& norm,
                                       const Epilogue& epilogue) const;
  /// SiLU(norm(x)) convolved, + residual, written over the residual.
  virtual Tensor forward_onto(ForwardContext& ctx, const Tensor& x, const GroupNorm* norm,
                              Tensor residual) const = 0;
  /// The same two with the normalization as GroupNorm::affine gives it, or empty for none: x may be a band of
  /// the image that it was taken from. Not for 1×1 convolutions.
  virtual Tensor forward_with(ForwardContext& ctx, const Tensor& x, const Tensor& factors,
                              const Epilogue& epilogue = {}) const = 0;
  virtual Tensor forward_onto_with(ForwardContext& ctx, const Tensor& x, const Tensor& factors,
                                   Tensor residual, bool relu = false) const = 0;
  /// A 1×1 convolution to fewer channels, written over x.
  virtual Tensor forward_in_place(ForwardContext& ctx, Tensor x) const = 0;
  /// A 1×1 convolution of an x that is not needed any more: written over it where that is possible.
  Tensor forward_last(ForwardContext& ctx, Tensor x) const;
  /// What a residual block begins with: SiLU(norm(x)) convolved, with the normalization as forward_with()
  /// takes it, and the residual: x through the shortcut, a 1×1 convolution, or x itself if that is null.
  struct Branches {
    Tensor hidden, residual;
  };
  virtual Branches forward_branches(ForwardContext& ctx, Tensor x, const Tensor& factors,
                                    const Conv2d* shortcut, const Epilogue& epilogue) const;
  /// An upsampling convolution to twice the size or one less: height is 2h or 2h−1 (a downsampling had an odd
  /// size), width likewise.
  virtual Tensor upsample(ForwardContext& ctx, const Tensor& x, int64_t height, int64_t width) const = 0;

 private:
  Conv2dOptions options_;
  int64_t in_, out_;
};

struct AttentionOptions {
  int64_t width = 0;          // of x and of the output
  int64_t context_width = 0;  // 0: self-attention
  int64_t heads = 1;
  int64_t head_dim = 0;          // heads · head_dim is the inner width
  bool projection_bias = false;  // of q, k and v
  bool output_bias = true;
  bool causal = false;
  bool wide_output = false;  // see Conv2dOptions
  bool feeds_group_norm = false;
  Role role = Role::hidden;
  const char *q = "to_q", *k = "to_k", *v = "to_v", *out = "to_out.0";

  int64_t inner() const { return heads * head_dim; }
};

/// Where the keys and values of each image's context lie, as Attention::pack left them.
struct PackedContext {
  const Address* images = nullptr;  // [n]; null while measuring
  size_t offset = 0;                // bytes from there to this attention's own
  int64_t length = 0;               // tokens
};

/// A further context of cross-attention, such as that of an image (Ye et al. 2023, "IP-Adapter", section
/// 3.2.2): factor · mask · attention(q, keys, values), with the same queries, is added before the output
/// projection.
struct AddedContext {
  Tensor keys_values;             // [m][1][length][2 · inner]: each token's keys, then its values
  const int32_t* rows = nullptr;  // [n]: which of the m each image attends to; null while measuring
  float factor = 1;
  Tensor mask{};  // [1][h][w][1], of each pixel of all images; empty: 1
};

/// Multi-head attention (Vaswani et al. 2017) with its projections.
class Attention {
 public:
  virtual ~Attention() = default;
  /// Self-attention. x: [n][h][w][width]; + residual, which may be null.
  virtual Tensor forward(ForwardContext& ctx, const Tensor& x, const Tensor* residual) const = 0;
  /// Self-attention of which queries, keys and values are projected from inputs of their own: those of the
  /// queries of n images, of their keys and of their values, [3n][h][w][width]. → [n][h][w][width]
  virtual Tensor forward_apart(ForwardContext& ctx, const Tensor& inputs, const Tensor* residual) const = 0;
  /// Cross-attention. x: [n][h][w][width] attends to the context and to those that are added; + residual.
  virtual Tensor forward(ForwardContext& ctx, const Tensor& x, const PackedContext& context,
                         const std::vector<AddedContext>& added, const Tensor* residual) const = 0;
  /// Both of norm(x), which a backend can fuse.
  virtual Tensor forward_normed(ForwardContext& ctx, const LayerNorm& norm, const Tensor& x,
                                const Tensor* residual) const;
  virtual Tensor forward_normed(ForwardContext& ctx, const LayerNorm& norm, const Tensor& x,
                                const PackedContext& context, const std::vector<AddedContext>& added,
                                const Tensor* residual) const;
  /// Self-attention of norm(x), + x, written over x: [1][h][w][width]. Only keys and values exist for all of
  /// x at once.
  virtual Tensor forward_onto(ForwardContext& ctx, const GroupNorm& norm, Tensor x) const = 0;

  /// Bytes that pack() writes for one image; a multiple of 64.
  virtual size_t packed_bytes(int64_t length) const = 0;
  /// Keys and values of context [n][1][length][context_width] in the form that cross-attention reads; image
  /// i's go to images[i] + offset.
  virtual void pack(ForwardContext& ctx, const Tensor& context, const Address* images,
                    size_t offset) const = 0;
};

/// Lookup table of vectors (tokens, positions).
class Embedding {
 public:
  virtual ~Embedding() = default;
  /// ids [n][length] on the host, each in [0, count) → [n][1][length][width].
  virtual Tensor forward(ForwardContext& ctx, const int32_t* ids, int64_t n, int64_t length) const = 0;
  /// Adds to x [n][1][length][width] the vectors of ids [n][length].
  virtual void add_to(ForwardContext& ctx, const int32_t* ids, const Tensor& x) const = 0;
};

/// Vector quantization (van den Oord et al. 2017): each pixel of the latents as the index of its nearest
/// code.
class Codebook {
 public:
  Codebook(int64_t size, int64_t width) : size_(size), width_(width) {}
  virtual ~Codebook() = default;
  int64_t size() const { return size_; }
  int64_t width() const { return width_; }

  /// latents [n][h][w][width] → codes [n·h·w] on the host: argmin over e of ‖z−e‖², the first of equals.
  virtual void quantize(ForwardContext& ctx, const Tensor& latents, int32_t* codes) const = 0;
  /// codes [n][pixels] → latents [n][width][pixels], both on the host; each code in [0, size).
  virtual void lookup(const int32_t* codes, int64_t n, int64_t pixels, float* latents) const = 0;

 private:
  int64_t size_, width_;
};

/// Which tokens of each image are merged into which, see Backend::merge_tokens.
class TokenMerge {
 public:
  virtual ~TokenMerge() = default;
  /// x [n][h][w][c] → [n][1][tokens][c]: the means, in the order of the tokens that are left.
  virtual Tensor merge(ForwardContext& ctx, const Tensor& x) const = 0;
  /// Adds to each token of x the row of `merged` that it became a part of.
  virtual void unmerge_onto(ForwardContext& ctx, const Tensor& merged, const Tensor& x) const = 0;
};

}  // namespace nd
