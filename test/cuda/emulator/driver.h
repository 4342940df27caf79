// The emulator as a CUDA driver.
#pragma once
#include <cstdint>

#include "cuda/driver.h"

namespace emu {

/// What the emulated device is like, and how its kernels run.
struct DriverOptions {
  uint32_t seed = 0;  // see Options
  int threads = 2;
  int version = 12000;
  int devices = 1;
  int capability = 80;
  int multiprocessors = 8;
  size_t memory = size_t{8} << 30;
  int fail_launch = -1;  // the launch, counted from here, that loses the device
};
extern DriverOptions driver_options;

struct DriverCounts {
  int64_t launches, graph_launches;
  int64_t bytes, streams, contexts, graphs;  // what lives
};
extern DriverCounts driver_counts;

/// The table, as nd::cuda::load_driver makes it from the emulated library.
const nd::cuda::Driver& driver();

/// Forgets that the device was lost.
void recover();

/// dlsym of the emulated library.
void* symbol(void* library, const char* name);

}  // namespace emu
