// What the benchmarks of kernels share: options of the command line, timing, data and output.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "cases.h"
#include "cpu/kernels/reduced_gemm.h"

namespace nd::cpu::bench {

struct Options {
  std::string table, filter;
  int threads = 1;
  double seconds = 0.4;
  bool json = false;  // one line of JSON for each figure
};
extern Options options;

bool wanted(const std::string& name);

/// Seconds for slices 0…count−1 together, from at least three rounds and options.seconds. With one thread
/// this is the sum of each slice's shortest time, as slices of about a millisecond find quiet moments on a
/// busy machine. It is wall time: virtual machines charge preempted threads too little CPU time, and the best
/// of many figures would be such an error.
double best_time(int64_t count, const std::function<void(int64_t, int)>& slice);

/// Operations per second of a loop that runs a number of rounds and returns how many operations they were.
double measure_peak(const std::function<int64_t(int64_t)>& loop);

/// 64-byte aligned floats with small pseudo-random values.
class Buffer {
 public:
  explicit Buffer(int64_t count);
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  float* get() { return data_; }
  uint8_t* bytes() { return reinterpret_cast<uint8_t*>(data_); }

 private:
  float* data_;
};

/// Prints the peak of `compute` ("f32", "bf16", "int8").
void print_peak(const std::string& table, const std::string& compute, double peak);
/// Prints milliseconds, GFLOP/s and the fraction of the peak, or milliseconds and GB/s.
void print(const std::string& table, const std::string& name, double time, double operations, double peak);
void print_bandwidth(const std::string& table, const std::string& name, double time, double bytes);

/// Times an attention kernel, packing included.
void attention(const std::string& table, const std::string& kind, const AttentionKernel& kernel,
               const cases::Attention& c, double peak);
/// Times the products in reduced precision that the table has.
void reduced_products(const Kernels& table);

}  // namespace nd::cpu::bench
