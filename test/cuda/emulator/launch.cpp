// A grid's blocks, shared out among threads of the system.
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <numeric>
#include <thread>

#include "block.h"

namespace emu {
namespace {

constexpr uint32_t kSpread = 2654435761u;  // Knuth's multiplicative hashing

constexpr size_t kSignalStack = 64 << 10;

std::mutex &statistics_mutex = *new std::mutex, &spare_mutex = *new std::mutex;

/// Blocks that no launch uses, with their stacks: a few kernels later they are needed again.
std::vector<std::unique_ptr<Block>>& spare_blocks() {
  static auto& list = *new std::vector<std::unique_ptr<Block>>;
  return list;
}

std::unique_ptr<Block> take_block() {
  const std::lock_guard<std::mutex> lock(spare_mutex);
  std::vector<std::unique_ptr<Block>>& spare = spare_blocks();
  if (spare.empty()) return std::make_unique<Block>();
  std::unique_ptr<Block> taken = std::move(spare.back());
  spare.pop_back();
  return taken;
}

void give_back(std::unique_ptr<Block> b) {
  stack_t none{};
  none.ss_flags = SS_DISABLE;
  sigaltstack(&none, nullptr);
  const std::lock_guard<std::mutex> lock(spare_mutex);
  spare_blocks().push_back(std::move(b));
}

/// An access to a guard page: nothing can be computed any more.
void on_segv(int, siginfo_t* info, void*) {
  char text[200];
  int length = 0;
  if (block && block->current) {
    const dim3 b = block->index, t = block->current->index;
    length =
        snprintf(text, sizeof text,
                 "    fault: access to %p outside of every buffer, block (%u,%u,%u), thread (%u,%u,%u)\n",
                 info->si_addr, b.x, b.y, b.z, t.x, t.y, t.z);
  } else {
    length = snprintf(text, sizeof text, "    fault: segmentation fault on the host at %p\n", info->si_addr);
  }
  if (write(1, text, static_cast<size_t>(length)) < 0) _exit(4);
  _exit(3);
}

void catch_segv(Block& b) {
  stack_t alternate{};
  b.signal_stack.resize(kSignalStack);
  alternate.ss_sp = b.signal_stack.data();
  alternate.ss_size = kSignalStack;
  sigaltstack(&alternate, nullptr);
  struct sigaction action {};
  action.sa_sigaction = on_segv;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGSEGV, &action, nullptr);
  sigaction(SIGBUS, &action, nullptr);
}

/// The blocks in the order in which they begin.
std::vector<uint32_t> order_of(uint32_t blocks, uint32_t seed) {
  std::vector<uint32_t> order(blocks);
  std::iota(order.begin(), order.end(), 0u);
  if (seed == 1) std::reverse(order.begin(), order.end());
  if (seed > 1) {
    Block random;
    random.random = (seed * kSpread) | 1;
    for (uint32_t i = blocks; i > 1; --i) std::swap(order[i - 1], order[random.next() % i]);
  }
  return order;
}

void add(const Statistics& counted) {
  const std::lock_guard<std::mutex> lock(statistics_mutex);
  statistics.switches += counted.switches;
  statistics.mma += counted.mma;
  statistics.ldmatrix += counted.ldmatrix;
  statistics.ldmatrix_conflicts += counted.ldmatrix_conflicts;
  statistics.copies += counted.copies;
}

std::vector<const Kernel*>& kernels() {
  static auto& list = *new std::vector<const Kernel*>;
  return list;
}

}  // namespace

bool launch(dim3 grid, dim3 size, const Options& options, const std::function<void()>& kernel) {
  if (checking) launch_begins();
  const uint32_t blocks = grid.x * grid.y * grid.z;
  const std::vector<uint32_t> order = order_of(blocks, options.seed);
  std::atomic<uint32_t> taken{0};
  std::atomic<bool> whole{true};
  const auto work = [&] {
    std::unique_ptr<Block> own = take_block();
    Block& b = *own;
    catch_segv(b);
    make_block(b, size, options.shared);
    b.grid = grid, b.kernel = &kernel, b.seed = options.seed, b.overlaps = options.overlaps;
    block = &b;
    block_place = &b;
    for (uint32_t i; (i = taken++) < blocks;) {
      const uint32_t k = order[i];
      b.index = {k % grid.x, k / grid.x % grid.y, k / grid.x / grid.y};
      b.random = ((options.seed + 1) * kSpread ^ (k + 1) * 40503u) | 1;
      run_block(b);
      if (b.aborted) whole = false;
    }
    add(b.counted);
    b.counted = {};
    block = nullptr;
    give_back(std::move(own));
  };
  const int threads = checking ? 1 : std::min<int>(options.threads, static_cast<int>(blocks));
  std::vector<std::thread> pool;
  for (int i = 1; i < threads; ++i) pool.emplace_back(work);
  work();
  for (std::thread& thread : pool) thread.join();
  return whole;
}

Kernel::Kernel(const char* name, size_t parameter_bytes, void (*call)(void** parameters))
    : name(name), call(call), parameter_bytes(parameter_bytes) {
  kernels().push_back(this);
}

const Kernel* find_kernel(const char* name) {
  for (const Kernel* kernel : kernels())
    if (strcmp(kernel->name, name) == 0) return kernel;
  return nullptr;
}

}  // namespace emu
