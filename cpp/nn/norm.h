// Group normalisation (Wu & He 2018) and layer normalisation (Ba et al. 2016), biased variance as in PyTorch.
#pragma once
#include <string>
#include <vector>

#include "core/weights.h"
#include "nn/run.h"

namespace nd {

/// Count, mean and Σ(x−mean)² of a union of samples (Chan, Golub & LeVeque 1983).
struct Moments {
  double count = 0, mean = 0, m2 = 0;
  void add(double other_count, double other_mean, double other_m2) {
    const double total = count + other_count, delta = other_mean - mean;
    mean += delta * other_count / total;
    m2 += other_m2 + delta * delta * count * other_count / total;
    count = total;
  }
};

/// The moments of each channel of one image, of which a band at a time is seen.
class ChannelMoments {
 public:
  /// Rows [first, first + rows) of x: [1][h][w][c].
  void add(Run& run, const Feature& x, int64_t first, int64_t rows);
  /// One for each channel; empty before the first add().
  const std::vector<Moments>& channels() const { return channels_; }

 private:
  std::vector<Moments> channels_;
};

class GroupNorm {
 public:
  GroupNorm() = default;
  GroupNorm(Loader& loader, const std::string& name, int64_t channels, int64_t groups, float eps);

  /// The normalisation of x as one multiplication and addition per channel: [n][2][c], scales, then shifts.
  Feature affine(Run& run, const Feature& x) const;
  /// The same for the image that these are the moments of: [1][1][2][c].
  Feature affine(Run& run, const ChannelMoments& image) const;
  /// The normalised x itself, through SiLU when `silu`.
  Feature forward(Run& run, const Feature& x, bool silu = false) const;

 private:
  void write_factors(const Moments& group, int64_t first, int64_t width, float* scale, float* shift) const;

  std::vector<float> gamma_, beta_;
  int64_t groups_ = 1;
  float eps_ = 0;
};

class LayerNorm {
 public:
  LayerNorm() = default;
  LayerNorm(Loader& loader, const std::string& name, int64_t channels, float eps);
  Feature forward(Run& run, const Feature& x) const;

 private:
  std::vector<float> gamma_, beta_;
  float eps_ = 0;
};

}  // namespace nd
