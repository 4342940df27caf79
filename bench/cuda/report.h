// What the benchmarks of the CUDA backend have in common: the device, timing on it, and the report as JSON.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "cuda/backend.h"
#include "weights/tensor_type.h"

namespace nd::cuda_bench {

struct Options {
  bool emulated = false;
  std::string image;   // fat binary of the kernels
  std::string json;    // file, or empty
  int64_t shrink = 1;  // divides channels and image sizes, so that an emulator gets through
  int repetitions = 20;
  TensorType weights = TensorType::f16;     // of matrices and kernels, but those of the autoencoder
  std::vector<std::string> models{"sd15"};  // see model_config()
  std::vector<int64_t> sizes;               // pixels along a side; empty: all that are measured of a model
};

/// Numbers of one case, in the order in which they were measured.
struct Row {
  std::string name;
  std::vector<std::pair<std::string, double>> numbers;
};

class Report {
 public:
  void add(const std::string& group, Row row);
  void set(const std::string& key, const std::string& value) { texts_.emplace_back(key, value); }
  /// { "device": …, "kernels": [{ "name": …, "us": … }, …] }
  void write(const std::string& path) const;

 private:
  std::vector<std::pair<std::string, std::string>> texts_;
  std::vector<std::pair<std::string, std::vector<Row>>> groups_;
};

/// Dense f16 multiplications with float32 sums, in TFLOP/s, and memory bandwidth, in GB/s, of a card as its
/// maker states them; 0 where it is not known here.
struct Peak {
  double tflops = 0, gigabytes = 0;
};
Peak peak_of(const std::string& device);

/// Median of the times that `launch` takes on the device, in microseconds.
double device_microseconds(cuda::CudaBackend& backend, int repetitions,
                           const std::function<void(cuda::StreamHandle)>& launch);

}  // namespace nd::cuda_bench
