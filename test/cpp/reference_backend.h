// A second backend, for tests alone: every layer and operation is one plain loop in float32. It shows that
// models are written against the seam and nothing else, and it is the truth that other backends are compared
// with.
//
// Its memory hides behind addresses that no CPU can access: a model that looked behind a tensor's address
// would crash here.
#pragma once
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "nn/backend.h"

namespace nd::test {

class HiddenMemory final : public Memory {
 public:
  Address allocate(size_t bytes) override;
  void release(Address block, size_t bytes) noexcept override;
  /// What lies behind an address. Aborts the test program where nothing does.
  void* at(Address address);
  size_t blocks() const { return blocks_.size(); }

 private:
  std::map<uintptr_t, std::vector<uint8_t>> blocks_;
  std::pair<uintptr_t, size_t> last_;  // the block that was accessed last, and its length
  uint8_t* last_data_ = nullptr;
  uintptr_t next_ = uintptr_t{1} << 63;  // not canonical: every access faults
};

class ReferenceBackend final : public Backend {
 public:
  float* values(const Tensor& x) { return static_cast<float*>(memory_.at(x.address())); }
  HiddenMemory& hidden() { return memory_; }

  const Capabilities& capabilities() const override { return none_; }
  const FloatDecoders& decoders() const override { return scalar_decoders; }
  size_t element_bytes() const override { return sizeof(float); }
  Memory& memory() override { return memory_; }
  void run(Arena& arena, const CancelToken* cancel, Profile* profile,
           const std::function<void(ForwardContext&)>& forward) override;

  std::unique_ptr<Linear> linear(Loader& loader, LinearWeights weights,
                                 const LinearOptions& options) override;
  std::unique_ptr<FeedForward> feed_forward(Loader& loader, LinearWeights in, LinearWeights out) override;
  std::unique_ptr<Conv2d> conv2d(Loader& loader, Conv2dWeights weights,
                                 const Conv2dOptions& options) override;
  std::unique_ptr<GroupNorm> group_norm(Loader& loader, NormWeights weights, int64_t groups,
                                        float eps) override;
  std::unique_ptr<LayerNorm> layer_norm(Loader& loader, NormWeights weights, float eps) override;
  std::unique_ptr<Attention> attention(Loader& loader, AttentionWeights weights,
                                       const AttentionOptions& options) override;
  std::unique_ptr<Embedding> embedding(Loader& loader, const StoredTensor& table) override;
  std::unique_ptr<Codebook> codebook(Loader& loader, const StoredTensor& codes) override;

  std::unique_ptr<ChannelMoments> channel_moments() override;
  std::unique_ptr<TokenMerge> merge_tokens(ForwardContext& ctx, const Tensor& x, double ratio) override;
  /// So that models have a joined tensor read by each layer; the layers then concatenate it.
  bool reads_joined() const override { return true; }
  Tensor concat(ForwardContext& ctx, const Tensor& a, const Tensor& b) override;
  void copy_rows(ForwardContext& ctx, const Tensor& from, int64_t from_row, const Tensor& to, int64_t to_row,
                 int64_t count) override;
  void add_rows(ForwardContext& ctx, const Tensor& from, int64_t from_row, const Tensor& to, int64_t to_row,
                int64_t count, float factor, bool replaces) override;
  void add_masked(ForwardContext& ctx, const Tensor& from, const Tensor& to, float factor,
                  const Tensor* mask) override;
  Tensor average_pool(ForwardContext& ctx, const Tensor& x) override;
  Tensor resample(ForwardContext& ctx, const Tensor& x, Resampling how) override;
  void put(ForwardContext& ctx, const float* from, const Tensor& x, int64_t first, int64_t count) override;
  void get(ForwardContext& ctx, const Tensor& x, float* to) override;
  Tensor from_planar(ForwardContext& ctx, const float* images, int64_t n, int64_t c, int64_t h,
                     int64_t w) override;
  void to_planar(ForwardContext& ctx, const Tensor& x, float* images) override;
  Tensor read_planes(ForwardContext& ctx, const PlanarSource& source, Rows rows) override;
  void write_planes(ForwardContext& ctx, const Tensor& x, int64_t first, Rows rows,
                    const PlanarTarget& target) override;
  void store_rows(ForwardContext& ctx, const Tensor& x, int64_t first, Rows rows,
                  const StoredRows& to) override;
  void load_rows(ForwardContext& ctx, const StoredRows& from, Rows rows, const Tensor& x) override;

 private:
  HiddenMemory memory_;
  Capabilities none_;
};

}  // namespace nd::test
