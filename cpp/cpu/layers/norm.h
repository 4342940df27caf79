// Group normalization (Wu & He 2018) and layer normalization (Ba et al. 2016), with biased variance as in
// PyTorch.
#pragma once
#include <utility>
#include <vector>

#include "cpu/context.h"
#include "nn/layers.h"
#include "nn/weights.h"

namespace nd::cpu {

/// Count, mean and Σ(x−mean)² of a sample, to which others are added (Chan, Golub & LeVeque 1983).
struct Moments {
  double count = 0, mean = 0, m2 = 0;
  void add(double other_count, double other_mean, double other_m2) {
    const double total = count + other_count, delta = other_mean - mean;
    mean += delta * other_count / total;
    m2 += other_m2 + delta * delta * count * other_count / total;
    count = total;
  }
};

class ChannelMoments final : public nd::ChannelMoments {
 public:
  void add(ForwardContext& base, const Tensor& x, int64_t first, int64_t rows) override;
  /// The moments of each channel; empty before the first add().
  const std::vector<Moments>& channels() const { return channels_; }

 private:
  std::vector<Moments> channels_;
};

/// affine() gives the normalization as a scale and a shift for each channel: [n][2][c], scales first.
class GroupNorm final : public nd::GroupNorm {
 public:
  GroupNorm(NormWeights weights, int64_t groups, float eps)
      : weights_(std::move(weights)), groups_(groups), eps_(eps) {}

  Tensor affine(ForwardContext& base, const Tensor& x) const override;
  Tensor affine(ForwardContext& ctx, const nd::ChannelMoments& image) const override;
  Tensor forward(ForwardContext& base, const Tensor& x, bool silu) const override;
  Tensor modulated(ForwardContext& base, const Tensor& x, const Tensor& modulations, int64_t first_channel,
                   Activation activation) const override;

 private:
  void write_factors(const Moments& group, int64_t first, int64_t width, float* scale, float* shift) const;

  NormWeights weights_;
  int64_t groups_;
  float eps_;
};

class LayerNorm final : public nd::LayerNorm {
 public:
  LayerNorm(NormWeights weights, float eps) : weights_(std::move(weights)), eps_(eps) {}
  Tensor forward(ForwardContext& base, const Tensor& x) const override;

 private:
  NormWeights weights_;
  float eps_;
};

}  // namespace nd::cpu
