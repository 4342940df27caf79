// What every benchmark of the kernels shares: the command line's options, timing, data and lines of output.
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
  bool json = false;  // a line of JSON for each figure
};
extern Options options;

bool wanted(const std::string& name);

/// Seconds for slices 0…count−1 together, at least three rounds and options.seconds of them. With one thread:
/// the sum of every slice's shortest time, so that slices of about a millisecond find quiet moments on a busy
/// machine. Always wall time: a virtual machine charges preempted threads too little CPU time, and the best
/// of many would be such an error.
double best_time(int64_t count, const std::function<void(int64_t, int)>& slice);

/// Operations a second of a loop that runs `rounds` rounds and returns how many operations they were.
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

/// One line: the most that `compute` ("f32", "bf16", "int8") can do.
void print_peak(const std::string& table, const std::string& compute, double peak);
/// One line: milliseconds, GFLOP/s and the part of the peak.
void print(const std::string& table, const std::string& name, double time, double operations, double peak);
void print_bandwidth(const std::string& table, const std::string& name, double time, double bytes);

void attention(const std::string& table, const std::string& kind, const AttentionKernel& kernel,
               const cases::Attention& c, double peak);
/// Narrow matrix products and attention on the shapes of real layers, where the table has them.
void narrow_products(const Kernels& table);

}  // namespace nd::cpu::bench
