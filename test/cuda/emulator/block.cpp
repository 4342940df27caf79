// Runs the threads of one block to their ends, in the order that the seed asks for, and lets warps and blocks
// meet.
#include "block.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <mutex>

#include "fibers.h"

namespace emu {

thread_local Block* block = nullptr;
thread_local const ThreadPlace* thread_place = nullptr;
thread_local const BlockPlace* block_place = nullptr;
Statistics statistics{};
bool checking = false;
bool quiet = false;

namespace {

constexpr size_t kStack = 64 << 10;
constexpr size_t kStride = kStack + 1088;  // spreads the tops of the stacks over the cache's sets
constexpr uint64_t kPrinted = 6;           // faults

std::mutex report_mutex;
std::atomic<uint32_t> serials{1};

void report(const char* what, Here here) {
  if (__atomic_fetch_add(&statistics.faults, 1, __ATOMIC_RELAXED) >= kPrinted || quiet) return;
  const std::lock_guard<std::mutex> lock(report_mutex);
  if (!block || !block->current) {  // what the host does
    printf("    fault: %s\n", what);
    return;
  }
  const dim3 b = block->index, t = block->current->index;
  printf("    fault: %s at %s:%d, block (%u,%u,%u), thread (%u,%u,%u)\n", what, here.file ? here.file : "?",
         here.line, b.x, b.y, b.z, t.x, t.y, t.z);
}

/// What a fiber runs.
void body() {
  (*block->kernel)();
  Block& b = *block;
  Fiber& f = *b.current;
  f.done = true;
  ++b.done;
  b.warps[f.warp].ready &= ~(1u << f.lane);
  if (b.overlaps && !f.has_followed)
    fault("a thread ends without having waited for the previous kernel", Here{}, false);
  for (const Copy& copy : f.copies) {
    if (copy.done) continue;
    fault("a thread ends with cp.async under way", copy.here, false);
    break;
  }
  yield_fiber();
  abort();
}

/// The lane that goes on.
int pick(Block& b, uint32_t ready) {
  if (b.seed == 0) return __builtin_ctz(ready);
  if (b.seed == 1) return 31 - __builtin_clz(ready);
  const uint32_t turn = b.next() & 31;
  const uint32_t turned = ready >> turn | (turn ? ready << (32 - turn) : 0);
  return static_cast<int>((static_cast<uint32_t>(__builtin_ctz(turned)) + turn) & 31);
}

/// Finishes one tensor copy; any of those under way where the order is random.
void finish_late(Block& b) {
  const size_t which = b.seed > 1 ? b.next() % b.late.size() : 0;
  const auto work = b.late[which];
  b.late.erase(b.late.begin() + static_cast<ptrdiff_t>(which));
  work();
}

/// Makes one of a warp's lanes that are ready the one that runs.
Fiber& choose(Block& b, size_t warp) {
  Fiber& chosen = b.fibers[warp * 32 + static_cast<size_t>(pick(b, b.warps[warp].ready))];
  b.current = &chosen;
  thread_place = &chosen;
  ++b.counted.switches;
  return chosen;
}

/// Lets one warp run until all of its lanes wait, or until another is to go on. False where none could run.
bool run_warp(Block& b, size_t which) {
  if (!b.warps[which].ready || b.aborted) return false;
  emu_switch(&b.scheduler, choose(b, which).stack_pointer);
  return true;
}

void report_deadlock(Block& b) {
  Here here = b.waits_here;
  const char* what = "deadlock: all threads wait at a barrier";
  if (b.done && b.arrived) what = "some threads have ended, others wait at a barrier";
  for (Warp& warp : b.warps)
    if (warp.arrived) here = warp.here, what = "some lanes wait for others that never come";
  b.current = &b.fibers[0];
  report(what, here);
  b.aborted = true;
}

}  // namespace

uint32_t next_serial() {
  return serials;
}
dim3 thread_index() {
  return block->current->index;
}
dim3 block_index() {
  return block->index;
}
dim3 block_dim() {
  return block->size;
}
dim3 grid_dim() {
  return block->grid;
}
uint32_t lane() {
  return block->current->lane;
}
uint8_t* dynamic_shared() {
  return block->shared;
}

void yield_fiber() {
  Block& b = *block;
  Fiber& f = *b.current;
  const bool others_turn = b.seed > 1 && (b.next() & 15) == 0;
  if (others_turn || !b.warps[f.warp].ready || b.aborted) return emu_switch(&f.stack_pointer, b.scheduler);
  Fiber& next = choose(b, f.warp);
  if (&next != &f) emu_switch(&f.stack_pointer, next.stack_pointer);
}

void make_block(Block& b, dim3 size, size_t shared) {
  const uint32_t count = size.x * size.y * size.z;
  if (!b.stacks) {
    const size_t bytes = 1024 * kStride + 4096;
    b.stacks = static_cast<uint8_t*>(
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    b.stacks_end = b.stacks + bytes;
  }
  b.fibers.resize(count);
  b.warps.assign((count + 31) / 32, Warp());
  for (uint32_t i = 0; i < count; ++i) {
    Fiber& f = b.fibers[i];
    f.stack = b.stacks + i * kStride;
    f.top = f.stack + kStride;
    f.number = i, f.warp = i / 32, f.lane = i % 32;
    f.index = {i % size.x, i / size.x % size.y, i / size.x / size.y};
    b.warps[f.warp].lanes |= 1u << f.lane;
  }
  b.size = size, b.count = count;
  if (b.shared_capacity < shared) {
    if (b.shared) release(b.shared);
    b.shared_capacity = shared;
    b.shared = static_cast<uint8_t*>(allocate(shared));
  }
  b.shared_bytes = shared;
  if (checking && shared) unwatch(b.shared), watch(b.shared, shared, true);
}

void run_block(Block& b) {
  for (Fiber& f : b.fibers) {
    f.stack_pointer = new_stack(f.top, body);
    f.done = f.has_followed = false;
    f.copies.clear();
    f.group = 0;
  }
  for (Warp& warp : b.warps) {
    warp.ready = warp.lanes;
    warp.arrived = warp.epoch = 0;
    warp.product_group = 0;
    warp.products.clear();
  }
  b.arrived = b.done = b.epoch = 0;
  b.aborted = false;
  b.barriers.clear();
  b.late.clear();
  b.serial = serials++;
  memset(b.shared, 0xff, b.shared_bytes);  // NaN in every format
  const size_t warps = b.warps.size();
  while (b.done < b.count && !b.aborted) {
    if (!b.late.empty() && b.seed > 1 && (b.next() & 1)) finish_late(b);
    const size_t start = b.seed < 2 ? 0 : b.next() % warps;
    bool any = false;
    for (size_t i = 0; i < warps && !b.aborted; ++i) {
      const size_t which = (start + i) % warps;
      any |= run_warp(b, b.seed == 1 ? warps - 1 - which : which);
    }
    if (any || b.done == b.count || b.aborted) continue;
    if (b.late.empty())
      report_deadlock(b);
    else
      finish_late(b);
  }
}

void fault(const char* what, Here here, bool fatal) {
  report(what, here);
  if (!fatal) return;
  block->aborted = true;
  // The fiber never goes on; kernels have no destructors.
  void* nowhere;
  emu_switch(&nowhere, block->scheduler);
}

void together(uint32_t mask, const char* what, void (*op)(void**), void* argument, Here here) {
  Block& b = *block;
  Fiber& f = *b.current;
  Warp& warp = b.warps[f.warp];
  const uint32_t bit = 1u << f.lane;
  mask &= warp.lanes;
  if (!warp.arrived) {
    if (mask != ~0u) std::fill_n(warp.arguments, 32, nullptr);
    warp.mask = mask, warp.what = what, warp.op = op, warp.here = here;
  } else if (warp.mask != mask || warp.op != op || warp.here.line != here.line) {
    return fault("lanes of a warp meet in different places, or with different masks", here, true);
  }
  if (!(mask & bit)) return fault("a lane is not in the mask of its own call", here, true);
  warp.arguments[f.lane] = argument;
  warp.arrived |= bit;
  if (warp.arrived != mask) {
    warp.ready &= ~bit;
    return yield_fiber();
  }
  op(warp.arguments);
  warp.arrived = 0;
  ++warp.epoch;
  warp.ready |= mask;
}

void follow_previous() {
  block->current->has_followed = true;
}

void block_barrier(Here here) {
  Block& b = *block;
  Fiber& f = *b.current;
  if (b.done) return fault("a barrier that some threads of the block have ended before", here, true);
  b.waits_here = here;
  if (!b.arrived)
    b.barrier_here = here;
  else if (b.barrier_here.line != here.line || strcmp(b.barrier_here.file, here.file))
    return fault("threads of a block wait at different barriers", here, true);
  b.warps[f.warp].ready &= ~(1u << f.lane);
  if (++b.arrived < b.count) return yield_fiber();
  b.arrived = 0;
  ++b.epoch;
  for (Warp& warp : b.warps) warp.ready = warp.lanes;
  // Where the order matters, the last one to arrive is not the first one to go on.
  if (b.seed) yield_fiber();
}

}  // namespace emu
