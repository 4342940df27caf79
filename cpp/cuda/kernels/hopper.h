// What Hopper (sm_90a) adds: transaction barriers, the tensor copy engine and products of a warpgroup.
#pragma once
#include "cuda/kernels/device.h"

namespace nd::cuda {

#ifdef __CUDACC__

struct alignas(64) TensorMap {
  uint64_t opaque[16];  // a CUtensorMap
};
DEVICE void barrier_init(uint64_t* b, uint32_t count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(count) : "memory");
}
DEVICE void barrier_arrive(uint64_t* b) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(b)) : "memory");
}
DEVICE void barrier_expect(uint64_t* b, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(b)), "r"(bytes)
               : "memory");
}
DEVICE void barrier_wait(uint64_t* b, uint32_t parity) {
  asm volatile(
      "{\n.reg .pred p;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
      "@p bra done;\nbra again;\ndone:\n}" ::"r"(shared_address(b)),
      "r"(parity)
      : "memory");
}
DEVICE void tensor_copy_2d(void* shared, const TensorMap* map, uint64_t* b, int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], "
      "[%2];" ::"r"(shared_address(shared)),
      "l"(map), "r"(shared_address(b)), "r"(x), "r"(y)
      : "memory");
}
DEVICE void fence_barrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
DEVICE void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
DEVICE void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int N>
DEVICE void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}
/// c[64][64] += a[64][16]·b[64][16]ᵀ; both are rows of k in shared memory.
DEVICE void wgmma_m64n64k16(float (&c)[8][4], uint64_t a, uint64_t b) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,"
      "%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, %32, %33, p, 1, 1, 0, 0;\n}"
      : "+f"(c[0][0]), "+f"(c[0][1]), "+f"(c[0][2]), "+f"(c[0][3]), "+f"(c[1][0]), "+f"(c[1][1]),
        "+f"(c[1][2]), "+f"(c[1][3]), "+f"(c[2][0]), "+f"(c[2][1]), "+f"(c[2][2]), "+f"(c[2][3]),
        "+f"(c[3][0]), "+f"(c[3][1]), "+f"(c[3][2]), "+f"(c[3][3]), "+f"(c[4][0]), "+f"(c[4][1]),
        "+f"(c[4][2]), "+f"(c[4][3]), "+f"(c[5][0]), "+f"(c[5][1]), "+f"(c[5][2]), "+f"(c[5][3]),
        "+f"(c[6][0]), "+f"(c[6][1]), "+f"(c[6][2]), "+f"(c[6][3]), "+f"(c[7][0]), "+f"(c[7][1]),
        "+f"(c[7][2]), "+f"(c[7][3])
      : "l"(a), "l"(b));
}

#else  // the tests' emulator

using TensorMap = emu::TensorMap;
inline void barrier_init(uint64_t* b, uint32_t count, EMU_HERE) {
  emu::barrier_init(b, count, here);
}
inline void barrier_arrive(uint64_t* b, EMU_HERE) {
  emu::barrier_arrive(b, here);
}
inline void barrier_expect(uint64_t* b, uint32_t bytes, EMU_HERE) {
  emu::barrier_expect(b, bytes, here);
}
inline void barrier_wait(uint64_t* b, uint32_t parity, EMU_HERE) {
  emu::barrier_wait(b, parity, here);
}
inline void tensor_copy_2d(void* shared, const TensorMap* map, uint64_t* b, int x, int y, EMU_HERE) {
  const int32_t at[2] = {x, y};
  emu::tensor_copy(shared, *map, b, at, here);
}
inline void fence_barrier_init() {}
inline void wgmma_fence() {}
inline void wgmma_commit(EMU_HERE) {
  emu::group_commit(here);
}
template <int N>
void wgmma_wait(EMU_HERE) {
  emu::group_wait(N, here);
}
inline void wgmma_m64n64k16(float (&c)[8][4], uint64_t a, uint64_t b, EMU_HERE) {
  emu::group_multiply(&c[0][0], a, b, 64, here);
}

#endif

/// Rows of 128 bytes of k, swizzled by 128 bytes, groups of 8 rows 1024 bytes apart; aligned to 1024 bytes
/// but for k.
DEVICE uint64_t matrix_descriptor(const void* shared) {
  return (uint64_t{1} << 62) | (uint64_t{1024 >> 4} << 32) | (uint64_t{1} << 16) |
         ((shared_address(shared) & 0x3ffff) >> 4);
}

}  // namespace nd::cuda
