// What the benchmarks of the kernels share: command-line options, timing, data and output.
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
  bool json = false;  // print a line of JSON for each figure
};
extern Options options;

bool wanted(const std::string& name);

/// Seconds for slices 0…count−1 together, from at least three rounds and options.seconds. With one thread,
/// this is the sum of each slice's shortest time: a slice takes about a millisecond, so it finds a quiet
/// moment even on a busy machine. Wall time, because a virtual machine sometimes reports too little CPU time
/// for preempted threads, and the best of many would pick such an error.
double best_time(int64_t count, const std::function<void(int64_t, int)>& slice);

/// Operations per second of a loop that runs the given number of rounds and returns its operations.
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

/// Prints one line: the peak of `compute` ("f32", "bf16", "int8").
void print_peak(const std::string& table, const std::string& compute, double peak);
/// Prints one line: milliseconds, GFLOP/s and percent of the peak.
void print(const std::string& table, const std::string& name, double time, double operations, double peak);
void print_bandwidth(const std::string& table, const std::string& name, double time, double bytes);

void attention(const std::string& table, const std::string& kind, const AttentionKernel& kernel,
               const cases::Attention& c, double peak);
/// Matrix products and attention in bfloat16 and int8 on the shapes of real layers, where the table has them.
void narrow_products(const Kernels& table);

}  // namespace nd::cpu::bench
