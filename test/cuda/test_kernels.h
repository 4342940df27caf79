// The tests' own kernels, by name.
#pragma once
#include "support.h"
#include "cuda/kernels/arguments.h"
#include "kernels/test_arguments.h"

namespace nd::cuda_test {

struct TestLaunch {
  const char* kernel = nullptr;
  cuda::Grid grid;
  int threads = 0;
  int shared_bytes = 0;
};

/// Runs one and waits. False where the device failed, which the emulator's then recovers from.
bool launch_test(const TestLaunch& what, const void* arguments);

/// Encodes [rows][k] halves for boxes of 64×64 with a 128-byte swizzle.
cuda::TensorMapBytes tensor_map(const Array& array, int64_t rows, int64_t k);

}  // namespace nd::cuda_test
