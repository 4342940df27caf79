// Hopper's asynchronous operations: transaction barriers, tensor copies, products of a warpgroup. Copies and
// products are done at once or as late as they can be, so that what is read or overwritten too early gives
// wrong numbers. The checker does not follow races through mbarriers.
#include <string.h>

#include <algorithm>

#include "earlier.h"
#include "internal.h"

namespace emu {
namespace {

Barrier& find(uint64_t* at, Here here) {
  for (Barrier& b : block->barriers)
    if (b.at == at) return b;
  fault("an mbarrier that was never initialised", here, true);
  __builtin_unreachable();
}

void settle(Barrier& b) {
  if (b.pending || b.bytes) return;
  b.parity ^= 1, b.pending = b.count;
  for (Fiber* f : b.waiting) block->warps[f->warp].ready |= 1u << f->lane;
  b.waiting.clear();
}

uint32_t swizzled(uint32_t address, int bytes) {
  const uint32_t rows = bytes == 128 ? 7 : bytes == 64 ? 3 : bytes == 32 ? 1 : 0;
  return address ^ (address >> 7 & rows) << 4;
}

}  // namespace

uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(static_cast<const uint8_t*>(p) - block->shared);
}

void barrier_init(uint64_t* at, uint32_t count, Here here) {
  touch(at, 8, Access::write, here);
  block->barriers.push_back({at, count, count, 0, 0, {}});
}

void barrier_arrive(uint64_t* at, Here here) {
  Barrier& b = find(at, here);
  if (!b.pending) return fault("more arrivals at an mbarrier than it was initialised for", here, true);
  --b.pending;
  settle(b);
}

void barrier_expect(uint64_t* at, uint32_t bytes, Here here) {
  find(at, here).bytes += bytes;
  barrier_arrive(at, here);
}

void barrier_wait(uint64_t* at, uint32_t parity, Here here) {
  Barrier* b = &find(at, here);
  if (b->parity != parity) return;
  Fiber& f = *block->current;
  b->waiting.push_back(&f);
  block->warps[f.warp].ready &= ~(1u << f.lane);
  block->waits_here = here;
  yield_fiber();
}

void tensor_copy(void* shared, const TensorMap& map, uint64_t* at, const int32_t* first, Here here) {
  const uint32_t element = static_cast<uint32_t>(map.element_bytes), inner = map.box[0] * element;
  uint32_t bytes = inner;
  for (int d = 1; d < map.rank; ++d) bytes *= map.box[d];
  const uint32_t to = shared_address(shared);
  if (to % 128 || (map.swizzle == 128 && to % 1024))
    return fault("tensor copy: destination is not aligned for its swizzle", here, true);
  if (map.swizzle && inner > static_cast<uint32_t>(map.swizzle))
    return fault("tensor copy: inner box wider than its swizzle", here, true);
  if (to + bytes > block->shared_bytes)
    return fault("tensor copy: destination is not in shared memory", here, true);
  memset(shared, 0xff, bytes);
  struct At {
    int32_t c[5];
  } start{};
  std::copy_n(first, map.rank, start.c);
  const bool early = block->overlaps && !block->current->has_followed;
  const auto work = [=] {  // with a copy of the map
    for (uint32_t i = 0; i < bytes; i += element) {
      uint32_t rest = i / element;
      const uint8_t* from = map.base;
      bool inside = true;
      for (int d = 0; d < map.rank; ++d) {
        const int64_t c = start.c[d] + static_cast<int64_t>(rest % map.box[d]);
        rest /= map.box[d];
        inside &= c >= 0 && c < static_cast<int64_t>(map.size[d]);
        from += c * static_cast<int64_t>(d ? map.stride[d] : uint64_t{element});
      }
      uint8_t* target = block->shared + swizzled(to + i, map.swizzle);
      if (inside)
        memcpy(target, early ? earlier(from) : from, element);
      else
        memset(target, 0, element);
    }
    Barrier& b = find(at, here);
    b.bytes -= bytes;
    settle(b);
  };
  if (completes_now()) return work();
  block->late.push_back(work);
}

// --- wgmma ---

namespace {

float half_at(uint32_t address) {
  __half h{0xffff};
  if (address + 2 <= block->shared_bytes) memcpy(&h, block->shared + address, 2);
  return __half2float(h);
}

/// What a descriptor says of a matrix in shared memory.
struct Matrix {
  uint32_t start, leading, stride;
  int swizzle;

  explicit Matrix(uint64_t descriptor)
      : start(static_cast<uint32_t>(descriptor & 0x3fff) << 4),
        leading(static_cast<uint32_t>(descriptor >> 16 & 0x3fff) << 4),
        stride(static_cast<uint32_t>(descriptor >> 32 & 0x3fff) << 4) {
    static const int swizzles[] = {0, 128, 64, 32};
    swizzle = swizzles[descriptor >> 62];
  }

  /// Element (row, k) of rows of k.
  float along_k(int row, int k) const {
    const uint32_t line = swizzle ? static_cast<uint32_t>(swizzle) : 16;
    return half_at(swizzled(start + static_cast<uint32_t>(row / 8) * stride +
                                static_cast<uint32_t>(row % 8) * line + static_cast<uint32_t>(k) * 2,
                            swizzle));
  }
  /// Element (row, k) of rows of 64 neighbours at each k, swizzled by 128 bytes.
  float across_k(int row, int k) const {
    return half_at(swizzled(start + static_cast<uint32_t>(row / 64) * leading +
                                static_cast<uint32_t>(k / 8) * stride + static_cast<uint32_t>(k % 8) * 128 +
                                static_cast<uint32_t>(row % 64) * 2,
                            swizzle));
  }
};

/// One lane's part of a product. With `fragments`, a is in registers, and b lies across k.
struct Product {
  float* c;
  uint64_t a, b;
  uint32_t fragments[4];
  int n;
  bool in_registers;
};

float from_fragments(const Product* lanes, int row, int k) {
  const uint32_t word = lanes[row % 8 * 4 + k % 8 / 2].fragments[row / 8 + k / 8 * 2];
  return __half2float(__half{static_cast<uint16_t>(word >> (k % 2 * 16))});
}

void multiply_group(const Product* lanes, int warp) {
  constexpr int kMaxColumns = 256;
  const Product& first = lanes[0];
  const Matrix left(first.a), right(first.b);
  float b[kMaxColumns][16];
  for (int j = 0; j < first.n; ++j)
    for (int k = 0; k < 16; ++k) b[j][k] = first.in_registers ? right.across_k(j, k) : right.along_k(j, k);
  for (int r = 0; r < 16; ++r) {
    float a[16];
    for (int k = 0; k < 16; ++k)
      a[k] = first.in_registers ? from_fragments(lanes, r, k) : left.along_k(warp % 4 * 16 + r, k);
    for (int j = 0; j < first.n; ++j) {
      float sum = 0;
      for (int k = 0; k < 16; ++k) sum += a[k] * b[j][k];
      lanes[r % 8 * 4 + j % 8 / 2].c[j / 8 * 4 + r / 8 * 2 + j % 2] += sum;
    }
  }
}

void multiply(Product mine, Here here) {
  if (block->current->warp / 4 * 4 + 4 > block->warps.size())
    return fault("wgmma: not a whole warpgroup", here, true);
  together(
      ~0u, "wgmma",
      [](void** lanes) {
        Product all[32];
        const Product& first = *static_cast<Product*>(lanes[0]);
        for (int i = 0; i < 32; ++i) {
          all[i] = *static_cast<Product*>(lanes[i]);
          if (all[i].a != first.a || all[i].b != first.b)
            return fault("wgmma: descriptors differ within a warp", {"wgmma", 0}, true);
        }
        Warp& warp = block->warps[block->current->warp];
        const int number = static_cast<int>(block->current->warp);
        if (completes_now() && warp.products.empty()) return multiply_group(all, number);
        const std::vector<Product> kept(all, all + 32);
        warp.products.push_back(
            {warp.product_group, [kept, number] { multiply_group(kept.data(), number); }});
      },
      &mine, here);
}

}  // namespace

void group_multiply(float* c, uint64_t a, uint64_t b, int n, Here here) {
  multiply({c, a, b, {}, n, false}, here);
}

void group_multiply_registers(float* c, const uint32_t (&a)[4], uint64_t b, int n, Here here) {
  multiply({c, 0, b, {a[0], a[1], a[2], a[3]}, n, true}, here);
}

void group_commit(Here here) {
  int nothing = 0;
  together(
      ~0u, "wgmma.commit", [](void**) { ++block->warps[block->current->warp].product_group; }, &nothing,
      here);
}

void group_wait(int most, Here here) {
  together(
      ~0u, "wgmma.wait",
      [](void** lanes) {
        Warp& warp = block->warps[block->current->warp];
        const int pending = *static_cast<int*>(lanes[0]);
        while (!warp.products.empty() && warp.products.front().first < warp.product_group - pending) {
          warp.products.front().second();
          warp.products.erase(warp.products.begin());
        }
      },
      &most, here);
}

}  // namespace emu
