// Counts what is allocated on a device.
#pragma once
#include <cstddef>

#include "cuda/driver.h"

namespace nd::cuda_bench {

/// `driver`, whose allocations are counted from now on. One in a process.
const cuda::Driver& count_memory(const cuda::Driver& driver);

/// Bytes that were asked for and not given back, as torch.cuda.memory_allocated() has them for PyTorch:
/// without the driver's own context and graphs.
size_t allocated_bytes();
/// The most at once since watch_memory().
size_t peak_bytes();
/// The most of the device's memory that was in use by all, at an allocation since watch_memory() or at a call
/// of this; the context of this thread must be current.
size_t peak_bytes_of_all();

/// Begins anew. Reading the device's memory at each allocation takes time: this is not for runs that are
/// timed.
void watch_memory();
void stop_watching_memory();

}  // namespace nd::cuda_bench
