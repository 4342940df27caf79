// What measurements of whole models have in common.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "report.h"

namespace nd::cuda_bench {

/// Seconds since some moment.
double now();

/// Uniform numbers with the variance of noise, always the same.
std::vector<float> noise(int64_t count, uint32_t state);

double median_of(std::vector<double> values);

/// Median of the times of calls, after two that are not counted; seconds.
template <class Call>
double median(int repetitions, const Call& call) {
  std::vector<double> times;
  for (int i = 0; i < repetitions + 2; ++i) {
    const double begin = now();
    call();
    if (i >= 2) times.push_back(now() - begin);
  }
  return median_of(std::move(times));
}

int repetitions_of(const Options& options);

/// Whether the options ask for pictures of this many pixels along a side.
bool wants_size(const Options& options, int64_t pixels);

/// "512x512"
std::string size_name(int64_t pixels);
/// "q8_0, ", or nothing for f16.
std::string type_name(TensorType type);

}  // namespace nd::cuda_bench
