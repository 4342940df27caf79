#include "cpu/backend.h"

#include <algorithm>
#include <utility>

#include "cpu/layers/attention.h"
#include "cpu/layers/codebook.h"
#include "cpu/layers/conv2d.h"
#include "cpu/layers/embedding.h"
#include "cpu/layers/linear.h"
#include "cpu/layers/norm.h"
#include "cpu/layers/pack_buffer.h"
#include "cpu/layers/token_merge.h"
#include "nn/token_merge.h"

namespace nd::cpu {
namespace {

Capabilities capabilities_of(const Kernels& kernels) {
  Capabilities result;
  result.bf16 = kernels.bf16 != nullptr;
  result.bf16_is_slow = kernels.bf16 && kernels.bf16->is_slow;
  result.i8 = kernels.i8 != nullptr;
  result.i16 = kernels.i16 != nullptr;
  result.bf16_attention = kernels.bf16_attention != nullptr;
  result.winograd_f32 = kernels.winograd_input != nullptr;
  result.winograd_bf16 = kernels.bf16 && kernels.bf16->winograd_input;
  result.winograd_i8 = kernels.i8 && kernels.i8->winograd_input;
  result.winograd_i16 = kernels.i16 && kernels.i16->winograd_input;
  return result;
}

}  // namespace

CpuBackend::CpuBackend(const Kernels& kernels, ThreadPool& pool)
    : device_{kernels, pool}, capabilities_(capabilities_of(kernels)) {}

CpuBackend& CpuBackend::shared() {
  // Never destroyed: a call may still be running when the process ends.
  static CpuBackend* backend = new CpuBackend(best_kernels(), ThreadPool::shared());
  return *backend;
}

CpuBackend& CpuBackend::portable() {
  static CpuBackend* backend = new CpuBackend(portable_kernels(), ThreadPool::shared());
  return *backend;
}

size_t CpuBackend::bytes_of(const TaskBytes& tasks) const {
  const size_t threads = static_cast<size_t>(device_.pool.threads());
  const size_t packing = std::min(threads * tasks.packing, std::max(PackBuffer::kMaxBytes, tasks.packing));
  return threads * tasks.scratch + packing;
}

void CpuBackend::trim() {
  PackBuffer::free_unused();
  device_.pool.free_scratch();
}

void CpuBackend::run(Arena& arena, const CancelToken* cancel, Profile* profile,
                     const std::function<void(ForwardContext&)>& forward) {
  Context ctx(ForwardContext{*this, arena, cancel, profile}, device_);
  forward(ctx);
}

std::unique_ptr<nd::Linear> CpuBackend::linear(Loader& loader, LinearWeights weights,
                                               const LinearOptions& options) {
  return std::make_unique<Linear>(device_, loader, std::move(weights), options);
}

std::unique_ptr<nd::FeedForward> CpuBackend::feed_forward(Loader& loader, LinearWeights in,
                                                          LinearWeights out) {
  return std::make_unique<FeedForward>(device_, loader, std::move(in), std::move(out));
}

std::unique_ptr<nd::Conv2d> CpuBackend::conv2d(Loader& loader, Conv2dWeights weights,
                                               const Conv2dOptions& options) {
  return std::make_unique<Conv2d>(device_, loader, std::move(weights), options);
}

std::unique_ptr<nd::GroupNorm> CpuBackend::group_norm(Loader&, NormWeights weights, int64_t groups,
                                                      float eps) {
  return std::make_unique<GroupNorm>(std::move(weights), groups, eps);
}

std::unique_ptr<nd::LayerNorm> CpuBackend::layer_norm(Loader&, NormWeights weights, float eps) {
  return std::make_unique<LayerNorm>(std::move(weights), eps);
}

std::unique_ptr<nd::Attention> CpuBackend::attention(Loader& loader, AttentionWeights weights,
                                                     const AttentionOptions& options) {
  return std::make_unique<Attention>(device_, loader, std::move(weights), options);
}

std::unique_ptr<nd::Embedding> CpuBackend::embedding(Loader& loader, const StoredTensor& table) {
  return std::make_unique<Embedding>(device_, loader, table);
}

std::unique_ptr<nd::Codebook> CpuBackend::codebook(Loader&, const StoredTensor& codes) {
  return std::make_unique<Codebook>(device_, codes);
}

std::unique_ptr<nd::ChannelMoments> CpuBackend::channel_moments() {
  return std::make_unique<ChannelMoments>();
}

std::unique_ptr<nd::TokenMerge> CpuBackend::merge_tokens(ForwardContext& ctx, const Tensor& x, double ratio) {
  if (merged_tokens(x.h, x.w, ratio) == 0) return nullptr;
  return std::make_unique<TokenMerge>(Context::of(ctx), x, ratio);
}

}  // namespace nd::cpu
