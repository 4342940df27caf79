// CUDA on the CPU, for tests without a GPU: a kernel's source, compiled as ordinary C++ against
// cuda_emulator.h, runs here. The threads of a block are fibers on one thread of the system, and blocks are
// shared out among such threads. What a warp does together (shuffles, ldmatrix, mma) is one meeting of its
// fibers: the last one to arrive computes for all, with the fragment layouts of the PTX manual.
//
// This header is what tests use; kernels see cuda_emulator.h.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>

struct dim3 {
  uint32_t x, y, z;
  constexpr dim3(uint32_t x = 1, uint32_t y = 1, uint32_t z = 1) : x(x), y(y), z(z) {}
};

namespace emu {

/// A place in a kernel's source: the caller's own, by default arguments.
struct Here {
  const char* file;
  int line;
  static constexpr Here now(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
};

struct Options {
  int threads = 2;    // of the system; always one in the checked build
  uint32_t seed = 0;  // 0: in order; 1: reversed; else blocks, warps and lanes in random order
  size_t shared = 0;  // dynamic shared memory, bytes
  /// Whether the kernel may begin before the previous one has ended, for which each of its threads must wait.
  bool overlaps = false;
};

struct Statistics {
  uint64_t switches, mma, ldmatrix, ldmatrix_conflicts, copies, faults;
};
extern Statistics statistics;

/// Whether the kernels were compiled with -fsanitize=thread, so that every access is watched.
extern bool checking;
/// Faults are counted, and the first few of each launch printed unless this is set (for planted ones).
extern bool quiet;

/// Runs `kernel` once for each thread of the grid. False where a fault ended a block.
bool launch(dim3 grid, dim3 block, const Options& options, const std::function<void()>& kernel);

/// Device memory: aligned to 256 bytes, filled with NaN, between guard pages. Null where there is no room.
void* allocate(size_t bytes);
void release(void* pointer);
void upload(void* device, const void* host, size_t bytes);
/// Fills it with NaN, as memory that nothing has written.
void poison(void* device, size_t bytes);
void download(void* host, const void* device, size_t bytes);
void copy(void* to, const void* from, size_t bytes);

/// A kernel by its name, with its parameters as cuLaunchKernel takes them.
struct Kernel {
  const char* name;
  void (*call)(void** parameters);
  size_t parameter_bytes;  // of the one parameter
  Kernel(const char* name, size_t parameter_bytes, void (*call)(void** parameters));
};
const Kernel* find_kernel(const char* name);

}  // namespace emu
