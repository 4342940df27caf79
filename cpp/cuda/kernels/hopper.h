// What Hopper (sm_90a) adds: transaction barriers, the tensor copy engine and products of a warpgroup.
#pragma once
#include "cuda/kernels/device.h"

namespace nd::cuda {

#ifdef __CUDACC__

using TensorMap = TensorMapBytes;
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
/// Ends the kernel by a trap where the barrier has not completed in 200 rounds of a millisecond: what the GPU
/// was taken away for counts as one round. Without that, a copy that never arrives would hang the GPU.
DEVICE void barrier_wait(uint64_t* b, uint32_t parity) {
  asm volatile(
      "{\n.reg .pred p;\n.reg .u64 begin, now;\n.reg .u32 rounds;\n"
      "mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n@p bra done;\n"
      "mov.u32 rounds, 0;\n"
      "round:\nmov.u64 begin, %%globaltimer;\n"
      "again:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n@p bra done;\n"
      "mov.u64 now, %%globaltimer;\nsub.u64 now, now, begin;\nsetp.lt.u64 p, now, 1000000;\n@p bra again;\n"
      "add.u32 rounds, rounds, 1;\nsetp.lt.u32 p, rounds, 200;\n@p bra round;\ntrap;\ndone:\n}" ::"r"(
          shared_address(b)),
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
DEVICE void tensor_copy_3d(void* shared, const TensorMap* map, uint64_t* b, int x, int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], "
      "[%2];" ::"r"(shared_address(shared)),
      "l"(map), "r"(shared_address(b)), "r"(x), "r"(y), "r"(z)
      : "memory");
}
DEVICE void tensor_copy_4d(void* shared, const TensorMap* map, uint64_t* b, int x, int y, int z, int w) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(shared_address(shared)),
      "l"(map), "r"(shared_address(b)), "r"(x), "r"(y), "r"(z), "r"(w)
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
// The registers of a product, in the order in which wgmma names them.
#define ND_SUMS_4(c, n) "+f"(c[n][0]), "+f"(c[n][1]), "+f"(c[n][2]), "+f"(c[n][3])
#define ND_SUMS_16(c, n) ND_SUMS_4(c, n), ND_SUMS_4(c, n + 1), ND_SUMS_4(c, n + 2), ND_SUMS_4(c, n + 3)
#define ND_SUMS_64(c, n) ND_SUMS_16(c, n), ND_SUMS_16(c, n + 4), ND_SUMS_16(c, n + 8), ND_SUMS_16(c, n + 12)
#define ND_NAMES_20 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19"
#define ND_NAMES_32 \
  ND_NAMES_20       \
  ",%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define ND_NAMES_40 \
  ND_NAMES_32       \
  ",%32,%33,%34,%35,%36,%37,%38,%39"
#define ND_NAMES_64                                                                              \
  ND_NAMES_40                                                                                    \
  ",%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62" \
  ",%63"
#define ND_NAMES_80 \
  ND_NAMES_64       \
  ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79"
#define ND_NAMES_128                                                                           \
  ND_NAMES_80                                                                                  \
  ",%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,%96,%97,%98,%99,%100,%101" \
  ",%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%119" \
  ",%120,%121,%122,%123,%124,%125,%126,%127"

/// Defines wgmma(c, a, b): c[64][N] += a[64][16]·b[N][16]ᵀ of a warpgroup; both are rows of k in shared
/// memory, see matrix_descriptor(). `operands` are the numbers after those of the sums, which follow.
#define ND_WGMMA(tiles, n, names, operands, ...)                                        \
  DEVICE void wgmma(float(&c)[tiles][4], uint64_t a, uint64_t b) {                      \
    asm volatile(                                                                       \
        "{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"                                      \
        "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.f16.f16 {" names "}, " operands \
        ", p, 1, 1, 0, 0;\n}"                                                           \
        : __VA_ARGS__                                                                   \
        : "l"(a), "l"(b));                                                              \
  }
ND_WGMMA(8, 64, ND_NAMES_32, "%32, %33", ND_SUMS_16(c, 0), ND_SUMS_16(c, 4))
ND_WGMMA(16, 128, ND_NAMES_64, "%64, %65", ND_SUMS_64(c, 0))
ND_WGMMA(20, 160, ND_NAMES_80, "%80, %81", ND_SUMS_64(c, 0), ND_SUMS_16(c, 16))
ND_WGMMA(32, 256, ND_NAMES_128, "%128, %129", ND_SUMS_64(c, 0), ND_SUMS_64(c, 16))
#undef ND_WGMMA

/// Defines wgmma_across(c, a, b): c[64][N] += a[64][16]·b[16][N]; a in registers, as mma has it; b in rows of
/// N in shared memory, see across_descriptor().
#define ND_WGMMA(tiles, n, names, operands, ...)                                                           \
  DEVICE void wgmma_across(float(&c)[tiles][4], const uint32_t(&a)[4], uint64_t b) {                       \
    asm volatile(                                                                                          \
        "{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"                                                         \
        "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.f16.f16 {" names "}, " operands ", p, 1, 1, 1;\n}" \
        : __VA_ARGS__                                                                                      \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                                             \
  }
ND_WGMMA(5, 40, ND_NAMES_20, "{%20,%21,%22,%23}, %24", ND_SUMS_16(c, 0), ND_SUMS_4(c, 4))
ND_WGMMA(8, 64, ND_NAMES_32, "{%32,%33,%34,%35}, %36", ND_SUMS_16(c, 0), ND_SUMS_16(c, 4))
ND_WGMMA(10, 80, ND_NAMES_40, "{%40,%41,%42,%43}, %44", ND_SUMS_16(c, 0), ND_SUMS_16(c, 4), ND_SUMS_4(c, 8),
         ND_SUMS_4(c, 9))
ND_WGMMA(16, 128, ND_NAMES_64, "{%64,%65,%66,%67}, %68", ND_SUMS_64(c, 0))
ND_WGMMA(20, 160, ND_NAMES_80, "{%80,%81,%82,%83}, %84", ND_SUMS_64(c, 0), ND_SUMS_16(c, 16))
#undef ND_WGMMA

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
inline void tensor_copy_3d(void* shared, const TensorMap* map, uint64_t* b, int x, int y, int z, EMU_HERE) {
  const int32_t at[3] = {x, y, z};
  emu::tensor_copy(shared, *map, b, at, here);
}
inline void tensor_copy_4d(void* shared, const TensorMap* map, uint64_t* b, int x, int y, int z, int w,
                           EMU_HERE) {
  const int32_t at[4] = {x, y, z, w};
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
template <int N>
void wgmma(float (&c)[N][4], uint64_t a, uint64_t b, EMU_HERE) {
  emu::group_multiply(&c[0][0], a, b, 8 * N, here);
}
template <int N>
void wgmma_across(float (&c)[N][4], const uint32_t (&a)[4], uint64_t b, EMU_HERE) {
  emu::group_multiply_registers(&c[0][0], a, b, 8 * N, here);
}

#endif

/// Rows of 128 bytes of k, swizzled by 128 bytes, groups of 8 rows 1024 bytes apart; aligned to 1024 bytes
/// but for k.
DEVICE uint64_t matrix_descriptor(const void* shared) {
  return (uint64_t{1} << 62) | (uint64_t{1024 >> 4} << 32) | (uint64_t{1} << 16) |
         ((shared_address(shared) & 0x3ffff) >> 4);
}

/// Rows of 64 neighbours (128 bytes) at each k, swizzled by 128 bytes; the next 64 neighbours lie `leading`
/// bytes later.
DEVICE uint64_t across_descriptor(const void* shared, uint32_t leading) {
  return (uint64_t{1} << 62) | (uint64_t{1024 >> 4} << 32) | (uint64_t{leading >> 4} << 16) |
         ((shared_address(shared) & 0x3ffff) >> 4);
}

}  // namespace nd::cuda
