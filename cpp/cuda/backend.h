// An NVIDIA GPU as a device: activations and weights in half precision, sums in float32, our own kernels.
#pragma once
#include "cuda/context.h"
#include "nn/backend.h"

namespace nd::cuda {

class CudaBackend final : public Backend {
 public:
  /// GPU `number` of this driver, with kernels from `image`, see Device. Error device_unavailable.
  CudaBackend(const Driver& driver, int number, const std::vector<char>& image)
      : device_(driver, number, image), memory_(device_) {}

  Device& device() { return device_; }

  const Capabilities& capabilities() const override { return capabilities_; }
  const FloatDecoders& decoders() const override { return scalar_decoders; }
  size_t element_bytes() const override { return 2; }
  float wide_unit() const override { return kFp16Unit; }
  int64_t max_elements() const override { return kMaxCount; }
  Memory& memory() override { return memory_; }
  void release_spare_memory() override { device_.release_spare_blocks(); }
  void run(Arena& arena, const CancelToken* cancel, Profile* profile,
           const std::function<void(ForwardContext&)>& forward) override;

  bool records() const override { return true; }
  /// As a CUDA graph.
  std::unique_ptr<Recording> record(Arena& arena, const CancelToken* cancel,
                                    const std::function<void(ForwardContext&)>& forward) override;

  std::unique_ptr<nd::Linear> linear(Loader& loader, LinearWeights weights,
                                     const LinearOptions& options) override;
  std::unique_ptr<nd::FeedForward> feed_forward(Loader& loader, LinearWeights in, LinearWeights out) override;
  std::unique_ptr<nd::Conv2d> conv2d(Loader& loader, Conv2dWeights weights,
                                     const Conv2dOptions& options) override;
  std::unique_ptr<nd::GroupNorm> group_norm(Loader& loader, NormWeights weights, int64_t groups,
                                            float eps) override;
  std::unique_ptr<nd::LayerNorm> layer_norm(Loader& loader, NormWeights weights, float eps) override;
  std::unique_ptr<nd::Attention> attention(Loader& loader, AttentionWeights weights,
                                           const AttentionOptions& options) override;
  std::unique_ptr<nd::Embedding> embedding(Loader& loader, const StoredTensor& table) override;
  std::unique_ptr<nd::Codebook> codebook(Loader& loader, const StoredTensor& codes) override;

  std::unique_ptr<nd::ChannelMoments> channel_moments() override;
  std::unique_ptr<nd::TokenMerge> merge_tokens(ForwardContext& ctx, const Tensor& x, double ratio) override;
  bool reads_joined() const override { return true; }
  Tensor concat(ForwardContext& base, const Tensor& a, const Tensor& b) override;
  void copy_rows(ForwardContext& base, const Tensor& from, int64_t from_row, const Tensor& to, int64_t to_row,
                 int64_t count) override;
  void add_rows(ForwardContext& base, const Tensor& from, int64_t from_row, const Tensor& to, int64_t to_row,
                int64_t count, float factor, bool replaces) override;
  void add_masked(ForwardContext& base, const Tensor& from, const Tensor& to, float factor,
                  const Tensor* mask) override;
  Tensor average_pool(ForwardContext& base, const Tensor& x) override;
  Tensor resample(ForwardContext& base, const Tensor& x, Resampling how) override;

  void put(ForwardContext& base, const float* values, const Tensor& x, int64_t first, int64_t count) override;
  void get(ForwardContext& base, const Tensor& x, float* values) override;
  void put_elements(ForwardContext& base, const void* elements, const Tensor& x, int64_t first,
                    int64_t count) override;
  void get_elements(ForwardContext& base, const Tensor& x, void* elements) override;
  Tensor from_planar(ForwardContext& base, const float* images, int64_t n, int64_t c, int64_t h,
                     int64_t w) override;
  void to_planar(ForwardContext& base, const Tensor& x, float* images) override;
  std::shared_ptr<ResidentTensors> resident(int64_t images, int64_t elements, int64_t further) override;
  Tensor from_resident(ForwardContext& base, ResidentTensors& from, const ImageShape& shape,
                       int64_t n) override;
  void to_resident(ForwardContext& base, const Tensor& x, ResidentTensors& to) override;
  Tensor read_planes(ForwardContext& base, const PlanarSource& source, Rows rows) override;
  void write_planes(ForwardContext& base, const Tensor& x, int64_t first, Rows rows,
                    const PlanarTarget& target) override;
  void store_rows(ForwardContext& base, const Tensor& x, int64_t first, Rows rows,
                  const StoredRows& to) override;
  void load_rows(ForwardContext& base, const StoredRows& from, Rows rows, const Tensor& x) override;

 private:
  /// The policy says which products may multiply int8; all others multiply fp16.
  static Capabilities multiplies() {
    Capabilities result;
    result.i8 = true;
    return result;
  }

  Device device_;
  DeviceMemory memory_;
  Capabilities capabilities_ = multiplies();
};

}  // namespace nd::cuda
