// The schedule of Euler's method as Stable Diffusion has it: leading timesteps of scaled linear noise.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace nd::cuda_bench {

class EulerSchedule {
 public:
  explicit EulerSchedule(int64_t steps);

  const std::vector<float>& timesteps() const { return timesteps_; }
  /// The noise level before step i; that after the last one is 0.
  double sigma(int64_t i) const { return sigmas_[static_cast<size_t>(i)]; }
  /// Of the latents that the first step begins with.
  double first_deviation() const;

 private:
  std::vector<float> timesteps_;
  std::vector<double> sigmas_;
};

}  // namespace nd::cuda_bench
