// The emulator as a CUDA driver.
#pragma once
#include <cstdint>

#include "cuda/driver.h"

namespace emu {

/// What the emulated device is like, and how its kernels and streams run: with seed 0 a stream puts
/// its work off until the host waits for it, with 1 it works at once, and any other seed decides each time.
/// Constants alone: the library sets them while its other objects may not be made yet.
struct DriverOptions {
  uint32_t seed = 0;  // see Options
  int threads = 2;
  int version = 12000;
  int devices = 1;
  int capability = 80;
  int multiprocessors = 8;
  size_t memory = size_t{8} << 30;
  int64_t pinned = -1;         // bytes of pinned memory of the host that there are; any number if negative
  bool lost_together = false;  // a context that is lost takes all others with it
  int fail_launch = -1;        // the launch, counted from here, that loses its context
  size_t context_bytes = 0;    // that a separate context must find free
  bool never_ready = false;    // events never come
  void (*separate_context)() = nullptr;  // called before one is made
  const char* copies = nullptr;          // a file that gets a line for each copy between host and device
  const char* replaced = nullptr;        // a kernel, in whose place modules have `replacement`
  const char* replacement = nullptr;
  /// Microseconds of a kernel of so many blocks with these arguments, in place of the time that passes. Then
  /// launches of more blocks than `computed_blocks` compute nothing in streams with events that tell the
  /// time, as speed is tried there.
  double (*launch_time)(const char* kernel, int64_t blocks, const void* arguments) = nullptr;
  int64_t computed_blocks = 31;
  int fail_graphs = 0;                                   // so many graphs find too little memory
  int computes = 1;                                      // 0: kernels are not run
  int (*resident_blocks)(const char* kernel) = nullptr;  // in place of what shared memory has room for
  double overlapped_share = 1;      // of a kernel's time, where it overlaps the previous one
  bool loses_overlapped = false;    // such kernels compute nothing
  bool refuses_overlapped = false;  // they are not supported after all
  bool keeps_earlier = false;  // they copy tensors as those were before the previous kernel, until they wait
};
extern DriverOptions driver_options;

struct DriverCounts {
  int64_t launches, graph_launches;
  int64_t overlapping;                               // launches, each once where a graph has it
  int64_t allocations, executables;                  // of device memory; of graphs; since the process began
  int64_t bytes, streams, events, contexts, graphs;  // what lives
  int64_t peak;                                      // of bytes
  int64_t pinned;                                    // bytes of the host's memory
  int64_t contexts_created;                          // separate ones, also those that were destroyed
};
extern DriverCounts driver_counts;

/// The table, as nd::cuda::load_driver makes it from the emulated library.
const nd::cuda::Driver& driver();

/// Forgets that the device was lost.
void recover();

/// dlsym of the emulated library.
void* symbol(void* library, const char* name);

}  // namespace emu
