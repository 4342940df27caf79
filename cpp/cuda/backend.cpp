#include "cuda/backend.h"

#include <utility>

#include "cuda/layers/attention.h"
#include "cuda/layers/codebook.h"
#include "cuda/layers/conv2d.h"
#include "cuda/layers/embedding.h"
#include "cuda/layers/linear.h"
#include "cuda/layers/norm.h"
#include "cuda/layers/token_merge.h"
#include "nn/token_merge.h"

namespace nd::cuda {

void CudaBackend::run(Arena& arena, const CancelToken* cancel, Profile* profile,
                      const std::function<void(ForwardContext&)>& forward) {
  const ForwardContext base{*this, arena, cancel, profile};
  if (arena.measuring()) {
    Context ctx(base, device_);
    return forward(ctx);
  }
  const Device::Current current(device_);
  const Device::Stream stream(device_);
  Context ctx(base, device_, stream);
  forward(ctx);
  stream.synchronize();
}

std::unique_ptr<Recording> CudaBackend::record(Arena& arena, const CancelToken* cancel,
                                               const std::function<void(ForwardContext&)>& forward) {
  const ForwardContext base{*this, arena, cancel, nullptr};
  const Device::Current current(device_);
  const Device::Stream stream(device_);
  Recorder recorder(device_, stream.handle());
  Context ctx(base, device_, stream, &recorder);
  forward(ctx);
  std::unique_ptr<Recording> recording = recorder.finish();
  stream.synchronize();
  return recording;
}

std::unique_ptr<nd::Linear> CudaBackend::linear(Loader& loader, LinearWeights weights,
                                                const LinearOptions& options) {
  return std::make_unique<Linear>(device_, loader, std::move(weights), options);
}

std::unique_ptr<nd::FeedForward> CudaBackend::feed_forward(Loader& loader, LinearWeights in,
                                                           LinearWeights out) {
  return std::make_unique<FeedForward>(device_, loader, std::move(in), std::move(out));
}

std::unique_ptr<nd::Conv2d> CudaBackend::conv2d(Loader& loader, Conv2dWeights weights,
                                                const Conv2dOptions& options) {
  return std::make_unique<Conv2d>(device_, loader, std::move(weights), options);
}

std::unique_ptr<nd::GroupNorm> CudaBackend::group_norm(Loader& loader, NormWeights weights, int64_t groups,
                                                       float eps) {
  return std::make_unique<GroupNorm>(device_, loader, weights, groups, eps);
}

std::unique_ptr<nd::LayerNorm> CudaBackend::layer_norm(Loader& loader, NormWeights weights, float eps) {
  return std::make_unique<LayerNorm>(device_, loader, weights, eps);
}

std::unique_ptr<nd::Attention> CudaBackend::attention(Loader& loader, AttentionWeights weights,
                                                      const AttentionOptions& options) {
  return std::make_unique<Attention>(device_, loader, std::move(weights), options);
}

std::unique_ptr<nd::Embedding> CudaBackend::embedding(Loader& loader, const StoredTensor& table) {
  return std::make_unique<Embedding>(device_, loader, table);
}

std::unique_ptr<nd::Codebook> CudaBackend::codebook(Loader& loader, const StoredTensor& codes) {
  return std::make_unique<Codebook>(device_, loader, codes);
}

std::unique_ptr<nd::ChannelMoments> CudaBackend::channel_moments() {
  return std::make_unique<ChannelMoments>();
}

std::unique_ptr<nd::TokenMerge> CudaBackend::merge_tokens(ForwardContext& ctx, const Tensor& x,
                                                          double ratio) {
  if (merged_tokens(x.h, x.w, ratio) == 0) return nullptr;
  return std::make_unique<TokenMerge>(Context::of(ctx), x, ratio);
}

}  // namespace nd::cuda
