// What the parts of the emulator know about a running block.
#pragma once
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "cuda_emulator.h"

namespace emu {

struct Copy {
  void* to;
  const void* from;
  uint32_t bytes, valid;
  int group;
  bool done;
  Here here;
};

struct Fiber : ThreadPlace {
  void* stack_pointer = nullptr;
  uint8_t *stack = nullptr, *top = nullptr;
  uint32_t number = 0, warp = 0;
  bool done = false, has_followed = false;
  std::vector<Copy> copies;
  int group = 0;  // of copies, the one that is not committed yet
};

struct Warp {
  uint32_t lanes = 0, ready = 0;  // that exist; that can run
  uint32_t mask = 0, arrived = 0;
  const char* what = nullptr;
  void (*op)(void**) = nullptr;
  Here here{};
  void* arguments[32];
  uint32_t epoch = 0;     // meetings so far
  int product_group = 0;  // of wgmma, the one that is not committed yet
  std::vector<std::pair<int, std::function<void()>>> products;
};

struct Barrier {  // an mbarrier
  uint64_t* at;
  uint32_t count, pending, parity;
  int64_t bytes;
  std::vector<Fiber*> waiting;
};

struct Block : BlockPlace {
  uint32_t serial = 0, count = 0, arrived = 0, done = 0, epoch = 0;
  Here barrier_here{}, waits_here{};  // of the block's barrier; of any kind, the last one
  bool aborted = false, overlaps = false;
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  std::vector<Barrier> barriers;
  std::vector<std::function<void()>> late;  // tensor copies under way
  Fiber* current = nullptr;
  uint8_t *stacks = nullptr, *stacks_end = nullptr;
  std::vector<uint8_t> signal_stack;
  std::shared_ptr<void> operands[2];  // of mma, where it works; too large for memory of threads in a library
  void* scheduler = nullptr;
  uint8_t* shared = nullptr;
  size_t shared_bytes = 0, shared_capacity = 0;
  uint32_t random = 1, seed = 0;
  const std::function<void()>* kernel = nullptr;
  Statistics counted{};

  uint32_t next() {
    random ^= random << 13;
    random ^= random >> 17;
    random ^= random << 5;
    return random;
  }
};

extern thread_local Block* block __attribute__((tls_model("initial-exec")));

/// To another lane of the warp or to the scheduler; comes back when the fiber's lane is ready.
void yield_fiber();
/// Whether an asynchronous operation is done at once or as late as it may be.
bool completes_now();
void finish(Copy& copy);

// checker.cpp, or no_checker.cpp where nothing is watched
void watch(const void* base, size_t bytes, bool shared);
void unwatch(const void* base);
/// By the host or the driver; or that nothing has written it.
void mark_written(const void* base, size_t bytes, bool written = true);
void launch_begins();
uint32_t next_serial();

}  // namespace emu
