#include "euler.h"

#include <cmath>

namespace nd::cuda_bench {

EulerSchedule::EulerSchedule(int64_t steps) {
  constexpr int64_t kTrained = 1000;
  std::vector<double> levels;
  double product = 1;
  for (int64_t i = 0; i < kTrained; ++i) {
    const double share = static_cast<double>(i) / (kTrained - 1);
    const double root = std::sqrt(0.00085) + share * (std::sqrt(0.012) - std::sqrt(0.00085));
    product *= 1 - root * root;
    levels.push_back(std::sqrt((1 - product) / product));
  }
  for (int64_t i = steps - 1; i >= 0; --i) {
    const int64_t timestep = i * (kTrained / steps) + 1;
    timesteps_.push_back(static_cast<float>(timestep));
    sigmas_.push_back(levels[static_cast<size_t>(timestep)]);
  }
  sigmas_.push_back(0);
}

double EulerSchedule::first_deviation() const {
  return std::sqrt(sigmas_[0] * sigmas_[0] + 1);
}

}  // namespace nd::cuda_bench
