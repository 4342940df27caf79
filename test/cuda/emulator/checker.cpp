// Watches every access of kernels: outside of a buffer, unaligned, never written, racing with another thread,
// or before its cp.async has been waited for. The kernels are compiled with -fsanitize=thread, whose calls
// end up in thread_sanitizer.cpp and from there in check().
#include "checker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <map>
#include <mutex>
#include <set>
#include <utility>

extern "C" char __executable_start;

namespace emu {
namespace {

/// What is known about one byte. Serials are of blocks, epochs of a block's barriers and of a warp's
/// meetings.
struct Cell {
  uint32_t write_serial, write_epoch, write_warp_epoch, read_serial, read_epoch, read_warp_epoch;
  uint16_t write_thread, read_thread;
  uint8_t written, kind, many_readers, many_warps;
};
enum : uint8_t { plain, atomic, in_flight };

struct Area {
  uint8_t* base;
  size_t bytes;
  bool shared;
  Cell* cells;
};
std::map<const uint8_t*, Area> areas;
std::mutex areas_mutex;
thread_local Area* last = nullptr;
uint32_t first_serial = 1;
std::set<std::pair<const void*, int>> told;  // one report for each place

Area* find(const uint8_t* p) {
  if (last && p >= last->base && p < last->base + last->bytes) return last;
  auto i = areas.upper_bound(p);
  if (i == areas.begin()) return nullptr;
  --i;
  if (p >= i->second.base + i->second.bytes) return nullptr;
  return last = &i->second;
}

/// File and line of a return address.
Here resolve(const void* from) {
  static std::map<const void*, Here> places;
  Here& here = places[from];
  if (here.file) return here;
  char command[400], text[300] = "?:0", self[200] = {};
  if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) self[0] = 0;
  const size_t at = static_cast<size_t>(static_cast<const char*>(from) - &__executable_start) - 1;
  snprintf(command, sizeof command, "addr2line -s -e %s 0x%zx 2>/dev/null", self, at);
  if (FILE* pipe = popen(command, "r")) {
    if (!fgets(text, sizeof text, pipe)) text[0] = 0;
    pclose(pipe);
  }
  char* colon = strrchr(text, ':');
  here.line = colon ? atoi(colon + 1) : 0;
  if (colon) *colon = 0;
  here.file = strdup(text);
  return here;
}

/// Threads' own variables, and what a meeting passes around.
bool on_stack(const uint8_t* p) {
  const uint8_t* warps = reinterpret_cast<const uint8_t*>(block->warps.data());
  return (p >= block->stacks && p < block->stacks_end) ||
         (p >= warps && p < warps + sizeof(Warp) * block->warps.size());
}

/// Whether the running thread comes after what `thread` did at these epochs.
bool ordered(uint32_t thread, uint32_t epoch, uint32_t warp_epoch) {
  const Fiber& f = *block->current;
  return thread == f.number || epoch < block->epoch ||
         (thread / 32 == f.warp && warp_epoch < block->warps[f.warp].epoch);
}

/// Whether a write races with what this block, or another one of this launch, has read.
bool races_with_reads(const Cell& c, const Area& area) {
  if (c.read_serial < first_serial || !c.read_serial) return false;
  if (c.read_serial != block->serial) return !area.shared;
  if (c.many_warps) return c.read_epoch >= block->epoch;
  if (!c.many_readers) return !ordered(c.read_thread, c.read_epoch, c.read_warp_epoch);
  const Fiber& f = *block->current;
  return !(c.read_epoch < block->epoch ||
           (c.read_thread / 32 == f.warp && c.read_warp_epoch < block->warps[f.warp].epoch));
}

bool races_with_writes(const Cell& c, const Area& area) {
  if (!c.written || c.write_serial < first_serial || !c.write_serial) return false;
  if (c.write_serial == block->serial) return !ordered(c.write_thread, c.write_epoch, c.write_warp_epoch);
  return !area.shared;
}

void note_write(Cell& c, Access access) {
  const Fiber& f = *block->current;
  c.written = 1;
  c.kind = access == Access::atomic ? atomic : access == Access::async_begin ? in_flight : plain;
  c.write_serial = block->serial, c.write_epoch = block->epoch;
  c.write_warp_epoch = block->warps[f.warp].epoch;
  c.write_thread = static_cast<uint16_t>(f.number);
}

void note_read(Cell& c) {
  const Fiber& f = *block->current;
  // What this warp alone has read before it last met comes before whatever it does now.
  const bool met =
      !c.many_warps && c.read_thread / 32 == f.warp && c.read_warp_epoch < block->warps[f.warp].epoch;
  if (c.read_serial != block->serial || c.read_epoch != block->epoch || met) {
    c.many_readers = c.many_warps = 0;
  } else {
    if (c.read_thread != f.number) c.many_readers = 1;
    if (c.read_thread / 32 != f.warp) c.many_warps = 1;
  }
  c.read_serial = block->serial, c.read_epoch = block->epoch;
  c.read_warp_epoch = block->warps[f.warp].epoch;
  c.read_thread = static_cast<uint16_t>(f.number);
}

/// What is wrong with this access of one byte, or null.
const char* check_byte(Cell& c, const Area& area, Access access) {
  if (area.shared && c.write_serial != block->serial) c.written = 0;
  if (access == Access::async_end) {
    c.kind = plain;
    c.write_epoch = block->epoch, c.write_warp_epoch = block->warps[block->current->warp].epoch;
    return nullptr;
  }
  const bool reads = access == Access::read || access == Access::atomic;
  const bool both_atomic = access == Access::atomic && c.kind == atomic;
  if (reads && !c.written) return "read of memory that nothing has written";
  if (c.written && c.write_serial == block->serial && c.kind == in_flight)
    return "access while cp.async to it is under way";
  if (!both_atomic && races_with_writes(c, area))
    return reads ? "race: read of what another thread writes" : "race: two threads write";
  if (access != Access::read) {
    if (access != Access::atomic && races_with_reads(c, area))
      return "race: write of what another thread reads";
    note_write(c, access);
  } else {
    note_read(c);
  }
  return nullptr;
}

}  // namespace

void tell(const char* what, Here here) {
  if (!told.insert({here.file, here.line}).second) return;
  fault(what, here.line == kReturnAddress ? resolve(here.file) : here, false);
}

bool watched(const void* address) {
  return block && block->current && !on_stack(static_cast<const uint8_t*>(address));
}

void watch(const void* base, size_t bytes, bool shared) {
  const std::lock_guard<std::mutex> lock(areas_mutex);
  uint8_t* p = static_cast<uint8_t*>(const_cast<void*>(base));
  areas[p] = {p, bytes, shared, static_cast<Cell*>(calloc(bytes + 1, sizeof(Cell)))};
  last = nullptr;
}

void unwatch(const void* base) {
  const std::lock_guard<std::mutex> lock(areas_mutex);
  const auto i = areas.find(static_cast<const uint8_t*>(base));
  last = nullptr;
  if (i == areas.end()) return;
  free(i->second.cells);
  areas.erase(i);
}

void mark_written(const void* base, size_t bytes, bool written) {
  const std::lock_guard<std::mutex> lock(areas_mutex);
  last = nullptr;
  const uint8_t* p = static_cast<const uint8_t*>(base);
  Area* area = find(p);
  if (!area) return;
  for (size_t i = 0; i < bytes; ++i) {
    Cell& cell = area->cells[p - area->base + static_cast<ptrdiff_t>(i)];
    cell = Cell{};
    cell.written = written;
  }
}

void launch_begins() {
  last = nullptr;
  first_serial = next_serial();
  told.clear();
}

void check(const void* address, size_t bytes, Access access, Here here) {
  if (!watched(address)) return;
  const uint8_t* p = static_cast<const uint8_t*>(address);
  Area* area = find(p);
  if (!area) return tell("access outside of every buffer", here);
  if (block->overlaps && !block->current->has_followed && !area->shared)
    return tell("access before the previous kernel has ended", here);
  if (p + bytes > area->base + area->bytes) return tell("access across the end of a buffer", here);
  for (size_t i = 0; i < bytes; ++i) {
    const char* what = check_byte(area->cells[p - area->base + static_cast<ptrdiff_t>(i)], *area, access);
    if (what) return tell(what, here);
  }
}

}  // namespace emu
