// What the tests of the CUDA backend share: the device that they run on, and arrays in its memory.
#pragma once
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cuda/backend.h"
#include "harness.h"
#include "weights/formats/half.h"

namespace nd::cuda_test {

using namespace nd::test;

/// A suite that runs with --device emulated or --device cuda.
struct Register : test::Register {
  explicit Register(Suite suite) : test::Register(suite, true) {}
};

/// Whether --device cuda was given: a GPU instead of the emulator.
bool on_hardware();
/// Whether every access of a kernel is watched, or another emulator runs this one: both take long. What a
/// test wants to know of the host's part (graphs, streams, cancelling, threads) it learns from the same
/// kernels when nobody watches them.
bool checks_kernels_alone();
/// The orders for whole models: one where every access is watched, which takes long.
std::vector<uint32_t> model_orders();

/// Whether all bits are the same.
bool same(const std::vector<float>& a, const std::vector<float>& b);
/// What is wrong with a call that is cancelled, or with the same one after it.
std::string check_cancelled(const std::function<std::vector<float>(const CancelToken* cancel)>& predict);

/// The backend on the device that was asked for, made once.
cuda::CudaBackend& backend();
/// Another one on the same device.
std::unique_ptr<cuda::CudaBackend> another_backend();
/// Another one that keeps so much working memory for later calls.
std::unique_ptr<cuda::CudaBackend> backend_with_spare_blocks(size_t bytes = size_t{64} << 20);
/// The kernels that it has; empty for the emulator, which has them by name.
std::vector<char> image();
/// The tests' own kernels for it; empty for the emulator.
std::vector<char> test_image();

/// Orders of threads that each case runs in; one on hardware, which has its own, and with --small.
std::vector<uint32_t> orders();
void set_order(uint32_t seed);
/// What the emulator found wrong since the last call, or nothing.
std::string faults();
/// Of ldmatrix, since the last call: cycles that it waited for a bank of shared memory. None are counted on
/// hardware.
uint64_t bank_conflicts();

inline uint16_t to_half(float x) {
  return float_to_half(x);
}
/// Rounded to what the device will see.
inline float rounded(float x) {
  return half_to_float(float_to_half(x));
}

/// Random numbers that are halves, in [−scale, scale).
std::vector<float> random_halves(const std::string& seed, int64_t count, float scale = 1);

/// Channels [first, first + count) of pixels that have c.
std::vector<float> channels_of(const std::vector<float>& x, int64_t c, int64_t first, int64_t count);

/// An array in device memory, which ends where its memory does.
class Array {
 public:
  Array() = default;
  explicit Array(int64_t bytes);
  static Array halves(const std::vector<float>& values);
  static Array floats(const std::vector<float>& values);

  template <class T>
  T* as() const {
    return cuda::pointer<T>(buffer_.address());
  }
  std::vector<float> read_halves(int64_t count) const;
  template <class T>
  std::vector<T> read(int64_t count) const {
    std::vector<T> values(static_cast<size_t>(count));
    download(values.data(), values.size() * sizeof(T));
    return values;
  }

 private:
  void download(void* to, size_t bytes) const;
  cuda::Buffer buffer_;
};

/// What a product has taken moments of.
struct MomentShape {
  int64_t n, pixels, c, pieces;
};
/// Compares moments [n][pieces][3][c] with those of y [n][pixels][c]: what is wrong, or nothing.
std::string check_moments(const std::vector<float>& y, const Array& moments, const MomentShape& shape);

/// Launches a kernel and waits for it.
template <class Arguments>
void launch(cuda::Kernel kernel, const cuda::Grid& grid, const Arguments& arguments) {
  cuda::Device& device = backend().device();
  const cuda::Device::Current current(device);
  const cuda::Device::Stream stream(device);
  device.launch(stream.handle(), kernel, grid, arguments);
  stream.synchronize();
}

/// Largest difference over the largest value of `truth`; infinite where anything is not finite.
double worst_error(const std::vector<float>& got, const std::vector<float>& truth);

/// One case, in these orders of threads: run() says what is wrong, or nothing.
template <class Run>
void in_orders(const std::vector<uint32_t>& seeds, const std::string& name, const Run& run) {
  for (const uint32_t seed : seeds) {
    const std::string full = name + ", order " + std::to_string(seed);
    if (!wanted(full)) continue;
    set_order(seed);
    try {
      std::string why = run();
      if (why.empty()) why = faults();
      report(full, why);
    } catch (const std::exception& error) {
      report(full, std::string("threw ") + error.what());
    }
  }
  set_order(0);
}

template <class Run>
void in_all_orders(const std::string& name, const Run& run) {
  in_orders(orders(), name, run);
}

/// Empty where the worst error is at most `most`.
std::string within(const std::vector<float>& got, const std::vector<float>& truth, double most);

}  // namespace nd::cuda_test
