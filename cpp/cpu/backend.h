// The CPU backend: layers and operations on the kernels of one table and the threads of one pool.
#pragma once
#include "cpu/context.h"
#include "nn/backend.h"

namespace nd::cpu {

class CpuBackend final : public Backend {
 public:
  CpuBackend(const Kernels& kernels, ThreadPool& pool);

  /// The backend of the process: best_kernels(), whose errors it throws, on the shared pool.
  static CpuBackend& shared();

  /// The same with portable_kernels().
  static CpuBackend& portable();

  const Device& device() const { return device_; }

  const Capabilities& capabilities() const override { return capabilities_; }
  const FloatDecoders& decoders() const override { return device_.kernels.decoders; }
  size_t element_bytes() const override { return sizeof(float); }
  Memory& memory() override { return host_memory(); }
  size_t bytes_of(const TaskBytes& tasks) const override;
  void trim() override;
  void run(Arena& arena, const CancelToken* cancel, Profile* profile,
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
  Tensor concat(ForwardContext& base, const Tensor& a, const Tensor& b) override;
  void copy_rows(ForwardContext& base, const Tensor& from, int64_t from_row, const Tensor& to, int64_t to_row,
                 int64_t count) override;
  void add_rows(ForwardContext& base, const Tensor& from, int64_t from_row, const Tensor& to, int64_t to_row,
                int64_t count, float factor, bool replaces) override;
  void add_masked(ForwardContext& base, const Tensor& from, const Tensor& to, float factor,
                  const Tensor* mask) override;
  Tensor average_pool(ForwardContext& base, const Tensor& x) override;
  Tensor resample(ForwardContext& base, const Tensor& x, Resampling how) override;

  void put(ForwardContext& ctx, const float* values, const Tensor& x, int64_t first, int64_t count) override;
  void get(ForwardContext& ctx, const Tensor& x, float* values) override;
  Tensor from_planar(ForwardContext& base, const float* images, int64_t n, int64_t c, int64_t h,
                     int64_t w) override;
  void to_planar(ForwardContext& base, const Tensor& x, float* images) override;
  Tensor read_planes(ForwardContext& base, const PlanarSource& source, Rows rows) override;
  void write_planes(ForwardContext& base, const Tensor& x, int64_t first, Rows rows,
                    const PlanarTarget& target) override;
  void store_rows(ForwardContext& base, const Tensor& x, int64_t first, Rows rows,
                  const StoredRows& to) override;
  void load_rows(ForwardContext& base, const StoredRows& from, Rows rows, const Tensor& x) override;

 private:
  Device device_;
  Capabilities capabilities_;
};

}  // namespace nd::cpu
