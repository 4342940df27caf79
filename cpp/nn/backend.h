// A device that models run on: it makes their layers, owns their memory, and moves numbers in and out.
#pragma once
#include <algorithm>
#include <functional>
#include <limits>
#include <memory>

#include "nn/layers.h"
#include "nn/resident.h"
#include "nn/weights.h"

namespace nd {

class Loader;

/// Rows [begin, end) of an image.
struct Rows {
  int64_t begin = 0, end = 0;
  int64_t count() const { return end - begin; }
};

/// Height, width and channels of an image.
struct ImageShape {
  int64_t h = 0, w = 0, c = 0;
  int64_t row() const { return w * c; }
  int64_t size() const { return h * row(); }
};

/// An image on the host, [c][h][w], of which x · scale + shift is read.
struct PlanarSource {
  const float* data = nullptr;
  ImageShape shape;
  float scale = 1, shift = 0;
};

/// An image on the host, [c][height][w], to which x · scale + shift is written.
struct PlanarTarget {
  float* data = nullptr;
  int64_t height = 0;
  float scale = 1, shift = 0;
};

/// Activations of autoencoders have exceeded the range of half precision, 65504. As multiples of this they
/// are kept up to 4·10⁶, and within 2⁻¹² of a value down to 0.004. A power of two rounds nothing.
constexpr float kFp16Unit = 64;

/// Rows of whole images that are kept outside of tensors: row y begins at data + y · row_bytes.
struct StoredRows {
  Address data;
  size_t row_bytes = 0;
  bool fp16 = false;  // in half precision, as multiples of kFp16Unit unless tensors already are
};

/// Memory of the tasks of a forward that is not in its arena, whose size does not depend on the number of
/// threads.
struct TaskBytes {
  size_t scratch = 0;  // of each thread
  size_t packing = 0;  // of each thread that packs streamed weights

  void include(const TaskBytes& other) {
    scratch = std::max(scratch, other.scratch);
    packing = std::max(packing, other.packing);
  }
};

/// Which way Backend::resample() changes the size of an image.
enum class Resampling { half, twice };

/// The pixels of a side that one pixel of the resampled side is made of: see Backend::resample().
struct ResamplingTaps {
  int64_t first = 0, count = 0;  // before edges are reflected
  float weights[4] = {};

  static ResamplingTaps of(Resampling how, int64_t i) {
    if (how == Resampling::half) return {2 * i - 1, 4, {0.125f, 0.375f, 0.375f, 0.125f}};
    const int64_t pixel = i / 2;
    if (i % 2 == 0) return {pixel - 1, 2, {0.25f, 0.75f}};
    return {pixel, 2, {0.75f, 0.25f}};
  }
  /// Pixel i of a side of `size`, reflected at its ends. A side of one pixel repeats it.
  static int64_t reflected(int64_t i, int64_t size) {
    const int64_t inside = i < 0 ? -i : i >= size ? 2 * (size - 1) - i : i;
    return std::clamp<int64_t>(inside, 0, size - 1);
  }
};

/// A forward that can be repeated without calling it again: its kernels and their arguments are known.
class Recording {
 public:
  virtual ~Recording() = default;
  /// Puts what lies at the host addresses that were put before, computes, and gets likewise. `resident`:
  /// tensors at the addresses of those that the forward read; null where it read none. Throws Cancelled.
  virtual void replay(const CancelToken* cancel, ResidentTensors* resident) = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  /// What its products can multiply.
  virtual const Capabilities& capabilities() const = 0;
  /// How it reads 16-bit stored weights.
  virtual const FloatDecoders& decoders() const = 0;
  /// Bytes of one element of a Tensor.
  virtual size_t element_bytes() const = 0;
  /// Wide activations are kept as multiples of this, see Conv2dOptions::wide_output. 1 where every element
  /// has the range of float32.
  virtual float wide_unit() const { return 1; }
  /// Of a Tensor that its layers compute with.
  virtual int64_t max_elements() const { return std::numeric_limits<int64_t>::max(); }
  virtual Memory& memory() = 0;
  /// Bytes of the tasks of all threads.
  virtual size_t bytes_of(const TaskBytes&) const { return 0; }
  /// Frees what it keeps for later calls of any model. Calls may be running.
  virtual void trim() {}
  /// Frees memory that trim() keeps for later calls. Called when a model is freed.
  virtual void release_spare_memory() {}
  /// Calls forward(context) with the context of a forward whose memory comes from `arena`, and waits for what
  /// it computes. Throws Cancelled.
  virtual void run(Arena& arena, const CancelToken* cancel, Profile* profile,
                   const std::function<void(ForwardContext&)>& forward) = 0;

  /// Whether record() gains anything.
  virtual bool records() const { return false; }
  /// The same for a forward that will be repeated with the same kernels and addresses, those on the host
  /// included. Null where it can only be run again.
  virtual std::unique_ptr<Recording> record(Arena& arena, const CancelToken* cancel,
                                            const std::function<void(ForwardContext&)>& forward) {
    run(arena, cancel, nullptr, forward);
    return nullptr;
  }

  // --- layers; Loader calls these with the weights that each needs ---

  virtual std::unique_ptr<Linear> linear(Loader& loader, LinearWeights weights,
                                         const LinearOptions& options) = 0;
  virtual std::unique_ptr<FeedForward> feed_forward(Loader& loader, LinearWeights in, LinearWeights out) = 0;
  virtual std::unique_ptr<Conv2d> conv2d(Loader& loader, Conv2dWeights weights,
                                         const Conv2dOptions& options) = 0;
  virtual std::unique_ptr<GroupNorm> group_norm(Loader& loader, NormWeights weights, int64_t groups,
                                                float eps) = 0;
  virtual std::unique_ptr<LayerNorm> layer_norm(Loader& loader, NormWeights weights, float eps) = 0;
  virtual std::unique_ptr<Attention> attention(Loader& loader, AttentionWeights weights,
                                               const AttentionOptions& options) = 0;
  virtual std::unique_ptr<Embedding> embedding(Loader& loader, const StoredTensor& table) = 0;
  virtual std::unique_ptr<Codebook> codebook(Loader& loader, const StoredTensor& codes) = 0;

  // --- operations between layers ---

  virtual std::unique_ptr<ChannelMoments> channel_moments() = 0;
  /// Token merging (Bolya & Hoffman 2023): matches the tokens of x [n][h][w][c] by their features. Null where
  /// no token of such an image is merged at this ratio.
  virtual std::unique_ptr<TokenMerge> merge_tokens(ForwardContext& ctx, const Tensor& x, double ratio) = 0;
  /// Whether layers read the parts of a joined tensor where they lie. Where they do not, models concatenate
  /// them once.
  virtual bool reads_joined() const { return false; }
  /// Channels of a, then channels of b.
  virtual Tensor concat(ForwardContext& ctx, const Tensor& a, const Tensor& b) = 0;
  /// Rows (pixels, tokens) [from_row, from_row + count) of `from` to `to`, from to_row on; as many channels.
  virtual void copy_rows(ForwardContext& ctx, const Tensor& from, int64_t from_row, const Tensor& to,
                         int64_t to_row, int64_t count) = 0;
  /// Adds the same rows times `factor`, or with `replaces` writes them; a factor of 0 then writes zeros.
  virtual void add_rows(ForwardContext& ctx, const Tensor& from, int64_t from_row, const Tensor& to,
                        int64_t to_row, int64_t count, float factor, bool replaces) = 0;
  /// The means of squares of 2 × 2 pixels: [n][h][w][c] → [n][⌈h/2⌉][⌈w/2⌉][c]. At the end of an odd side, of
  /// those that there are.
  virtual Tensor average_pool(ForwardContext& ctx, const Tensor& x) = 0;
  /// Half or twice the size by the filter (1 3 3 1) / 8 along both sides, with reflected edges: [n][h][w][c]
  /// → [n][⌊h/2⌋][⌊w/2⌋][c] or [n][2h][2w][c]. These are the fixed filters of k-diffusion's UNets.
  virtual Tensor resample(ForwardContext& ctx, const Tensor& x, Resampling how) = 0;

  /// to += factor · mask · from, of one shape. `mask` [1][h][w][1] is that of each image; null: 1.
  virtual void add_masked(ForwardContext& ctx, const Tensor& from, const Tensor& to, float factor,
                          const Tensor* mask) = 0;

  // --- where values cross between the host and the device ---

  /// Rows [first, first + count) of x from float32 values in its own order, and back.
  virtual void put(ForwardContext& ctx, const float* values, const Tensor& x, int64_t first,
                   int64_t count) = 0;
  virtual void get(ForwardContext& ctx, const Tensor& x, float* values) = 0;
  /// The same without a conversion: elements as tensors have them, element_bytes() each. float32 unless a
  /// backend says otherwise.
  virtual void put_elements(ForwardContext& ctx, const void* elements, const Tensor& x, int64_t first,
                            int64_t count) {
    put(ctx, static_cast<const float*>(elements), x, first, count);
  }
  virtual void get_elements(ForwardContext& ctx, const Tensor& x, void* elements) {
    get(ctx, x, static_cast<float*>(elements));
  }
  /// Images [n][c][h][w] on the host → [n][h][w][c] and back.
  virtual Tensor from_planar(ForwardContext& ctx, const float* images, int64_t n, int64_t c, int64_t h,
                             int64_t w) = 0;
  virtual void to_planar(ForwardContext& ctx, const Tensor& x, float* images) = 0;
  /// Tensors of a run of so many images that stay on the device, `elements` each; null where its memory is
  /// the host's.
  virtual std::shared_ptr<ResidentTensors> resident(int64_t images, int64_t elements, int64_t further);
  /// Runs the program that was staged, then gives the images of kInput, n / images() times → [n][h][w][c].
  virtual Tensor from_resident(ForwardContext& ctx, ResidentTensors& from, const ImageShape& shape,
                               int64_t n);
  /// x [n][h][w][c] as a prediction.
  virtual void to_resident(ForwardContext& ctx, const Tensor& x, ResidentTensors& to);
  /// Rows of an image on the host → [1][rows][w][c].
  virtual Tensor read_planes(ForwardContext& ctx, const PlanarSource& source, Rows rows) = 0;
  /// Rows of x, whose first one is row `first` of the image, to an image on the host.
  virtual void write_planes(ForwardContext& ctx, const Tensor& x, int64_t first, Rows rows,
                            const PlanarTarget& target) = 0;

  // --- whole images of which bands are read and written ---

  /// Rows of x, whose first one is row `first` of the image, to the stored image; and back.
  virtual void store_rows(ForwardContext& ctx, const Tensor& x, int64_t first, Rows rows,
                          const StoredRows& to) = 0;
  virtual void load_rows(ForwardContext& ctx, const StoredRows& from, Rows rows, const Tensor& x) = 0;
};

}  // namespace nd
