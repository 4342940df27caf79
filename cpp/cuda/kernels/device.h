// The few machine instructions that CUDA C++ has no name for: as PTX, and as calls of the tests' emulator.
// Every kernel takes one plain struct and has all its shared memory as one struct, so that both sides can
// size it.
#pragma once
#include "cuda/kernels/arguments.h"

#ifdef __CUDACC__

#ifndef INFINITY  // NVRTC has no math.h
#define INFINITY __int_as_float(0x7f800000)
#endif

#define DEVICE __device__ __forceinline__
/// Defines kernel `name`, which calls body(const Arguments&) in blocks of `threads`, of which `blocks` fit on
/// a multiprocessor; on Turing, whose products are instructions of half the size with registers of their own,
/// one. The body calls follow_previous() in every thread, before it reads what another kernel may have
/// written, or writes what one may be reading.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define ND_BLOCKS(blocks) 1
#else
#define ND_BLOCKS(blocks) blocks
#endif
#define ND_FOLLOWING_KERNEL(name, Arguments, threads, blocks, ...)         \
  extern "C" __global__ void __launch_bounds__(threads, ND_BLOCKS(blocks)) \
      name(const __grid_constant__ nd::cuda::Arguments p) {                \
    nd::cuda::place_next();                                                \
    __VA_ARGS__(p);                                                        \
  }

namespace nd::cuda {

/// Lets the blocks of the next kernel be placed once all of this one's are.
DEVICE void place_next() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
/// Waits until the previous kernel has ended and its writes are visible. Without
/// Device::overlapping_launches() it returns at once. Every thread of every kernel calls it, so that whoever
/// has waited for one kernel has waited for all earlier ones (PTX ISA, griddepcontrol).
DEVICE void follow_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

template <class T>
DEVICE T& shared_memory() {
  extern __shared__ __align__(1024) unsigned char raw[];
  return *reinterpret_cast<T*>(raw);
}
DEVICE uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

/// Four 8×8 matrices of 16-bit elements; lanes 8i…8i+7 name the rows of matrix i (aligned to 16 bytes).
DEVICE void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
DEVICE void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
template <int M>
DEVICE void ldmatrix_x4(uint32_t (&r)[M][4], const void* const (&row)[M]) {
#pragma unroll
  for (int i = 0; i < M; ++i) ldmatrix_x4(r[i], row[i]);
}
template <int M>
DEVICE void ldmatrix_x4_trans(uint32_t (&r)[M][4], const void* const (&row)[M]) {
#pragma unroll
  for (int i = 0; i < M; ++i) ldmatrix_x4_trans(r[i], row[i]);
}

/// c[m][n] += a[m]·b[n], each a 16×8 tile with k = 16 (f16, bf16) or 32 (s8).
template <int M, int N>
DEVICE void mma_f16(float (&c)[M][N][4], const uint32_t (&a)[M][4], const uint32_t (&b)[N][2]) {
#pragma unroll
  for (int m = 0; m < M; ++m)
#pragma unroll
    for (int n = 0; n < N; ++n) {
#if __CUDA_ARCH__ >= 800
      asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
          "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
          : "+f"(c[m][n][0]), "+f"(c[m][n][1]), "+f"(c[m][n][2]), "+f"(c[m][n][3])
          : "r"(a[m][0]), "r"(a[m][1]), "r"(a[m][2]), "r"(a[m][3]), "r"(b[n][0]), "r"(b[n][1]));
#else  // Turing takes k in two steps.
#pragma unroll
      for (int k = 0; k < 2; ++k)
        asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5},{%6},{%0,%1,%2,%3};"
            : "+f"(c[m][n][0]), "+f"(c[m][n][1]), "+f"(c[m][n][2]), "+f"(c[m][n][3])
            : "r"(a[m][2 * k]), "r"(a[m][2 * k + 1]), "r"(b[n][k]));
#endif
    }
}
/// The same with k = 8.
template <int M, int N>
DEVICE void mma_f16(float (&c)[M][N][4], const uint32_t (&a)[M][2], const uint32_t (&b)[N]) {
#pragma unroll
  for (int m = 0; m < M; ++m)
#pragma unroll
    for (int n = 0; n < N; ++n)
      asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5},{%6},{%0,%1,%2,%3};"
          : "+f"(c[m][n][0]), "+f"(c[m][n][1]), "+f"(c[m][n][2]), "+f"(c[m][n][3])
          : "r"(a[m][0]), "r"(a[m][1]), "r"(b[n]));
}
template <int M, int N>
DEVICE void mma_bf16(float (&c)[M][N][4], const uint32_t (&a)[M][4], const uint32_t (&b)[N][2]) {
#pragma unroll
  for (int m = 0; m < M; ++m)
#pragma unroll
    for (int n = 0; n < N; ++n) {
#if __CUDA_ARCH__ >= 800
      asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
          "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
          : "+f"(c[m][n][0]), "+f"(c[m][n][1]), "+f"(c[m][n][2]), "+f"(c[m][n][3])
          : "r"(a[m][0]), "r"(a[m][1]), "r"(a[m][2]), "r"(a[m][3]), "r"(b[n][0]), "r"(b[n][1]));
#else
      __trap();  // Turing has none; never chosen there
#endif
    }
}
template <int M, int N>
DEVICE void mma_s8(int32_t (&c)[M][N][4], const uint32_t (&a)[M][4], const uint32_t (&b)[N][2]) {
#pragma unroll
  for (int m = 0; m < M; ++m)
#pragma unroll
    for (int n = 0; n < N; ++n) {
#if __CUDA_ARCH__ >= 800
      asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
          : "+r"(c[m][n][0]), "+r"(c[m][n][1]), "+r"(c[m][n][2]), "+r"(c[m][n][3])
          : "r"(a[m][0]), "r"(a[m][1]), "r"(a[m][2]), "r"(a[m][3]), "r"(b[n][0]), "r"(b[n][1]));
#else  // Turing multiplies 8×8 tiles with k = 16.
#pragma unroll
      for (int i = 0; i < 4; ++i)
        asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0,%1},{%2},{%3},{%0,%1};"
            : "+r"(c[m][n][i % 2 * 2]), "+r"(c[m][n][i % 2 * 2 + 1])
            : "r"(a[m][i]), "r"(b[n][i / 2]));
#endif
    }
}

/// d[n] = c + a·b[n] of s8, with k = 32.
template <int N>
DEVICE void mma_s8(int32_t (&d)[N][4], const uint32_t (&a)[4], const uint32_t (&b)[N][2],
                   const int32_t (&c)[4]) {
#pragma unroll
  for (int n = 0; n < N; ++n) {
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
        "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%10,%11,%12,%13};"
        : "=r"(d[n][0]), "=r"(d[n][1]), "=r"(d[n][2]), "=r"(d[n][3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[n][0]), "r"(b[n][1]), "r"(c[0]), "r"(c[1]),
          "r"(c[2]), "r"(c[3]));
#else
    __trap();  // never chosen on Turing
#endif
  }
}

/// 16 bytes from global to shared memory, zeros where not `valid`.
DEVICE void cp_async16(void* shared, const void* global, bool valid) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(valid ? 16 : 0)
               : "memory");
#else
  *static_cast<uint4*>(shared) = valid ? *static_cast<const uint4*>(global) : make_uint4(0, 0, 0, 0);
#endif
}
/// Likewise 4 bytes, or nothing unless `wanted`: without a branch, which would keep what is before it from
/// what is behind.
DEVICE void cp_async4_if(bool wanted, void* shared, const void* global, bool valid) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "{ .reg .pred wanted;\n"
      "setp.ne.b32 wanted, %3, 0;\n"
      "@wanted cp.async.ca.shared.global [%0], [%1], 4, %2; }" ::"r"(shared_address(shared)),
      "l"(global), "r"(valid ? 4 : 0), "r"(static_cast<int>(wanted))
      : "memory");
#else
  if (wanted) *static_cast<uint32_t*>(shared) = valid ? *static_cast<const uint32_t*>(global) : 0;
#endif
}
DEVICE void cp_async_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
/// 2ˣ as the special function unit gives it: 2 ulp, denormals are zero.
DEVICE float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
/// Waits for all but the last N groups.
template <int N>
DEVICE void cp_async_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

}  // namespace nd::cuda

#else  // the tests' emulator

#define DEVICE inline
#define ND_FOLLOWING_KERNEL(name, Arguments, threads, blocks, ...)                                     \
  static const emu::Kernel emulated_##name(#name, sizeof(nd::cuda::Arguments), [](void** parameters) { \
    const nd::cuda::Arguments p = emu::parameter<nd::cuda::Arguments>(parameters);                     \
    __VA_ARGS__(p);                                                                                    \
  });

namespace nd::cuda {

template <class T>
T& shared_memory() {
  return *reinterpret_cast<T*>(emu::dynamic_shared());
}
inline void follow_previous() {
  emu::follow_previous();
}
inline uint32_t shared_address(const void* p) {
  return emu::shared_address(p);
}
/// One meeting of the warp for M loads.
template <int M>
void emulated_ldmatrix(uint32_t* r, const void* const* row, bool transposed, emu::Here here) {
  emu::MatrixRows rows[M];
  for (int i = 0; i < M; ++i) {
    emu::touch(row[i], 16, emu::Access::read, here);
    rows[i] = {row[i], r + 4 * i, 4 * M, transposed, here};
  }
  emu::together(~0u, transposed ? "ldmatrix.trans" : "ldmatrix", emu::load_matrices, rows, here);
}
inline void ldmatrix_x4(uint32_t (&r)[4], const void* row, EMU_HERE) {
  emulated_ldmatrix<1>(r, &row, false, here);
}
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row, EMU_HERE) {
  emulated_ldmatrix<1>(r, &row, true, here);
}
template <int M>
void ldmatrix_x4(uint32_t (&r)[M][4], const void* const (&row)[M], EMU_HERE) {
  emulated_ldmatrix<M>(r[0], row, false, here);
}
template <int M>
void ldmatrix_x4_trans(uint32_t (&r)[M][4], const void* const (&row)[M], EMU_HERE) {
  emulated_ldmatrix<M>(r[0], row, true, here);
}
template <emu::Element E, class C, int M, int N>
void emulated_mma(C (&c)[M][N][4], const uint32_t (&a)[M][4], const uint32_t (&b)[N][2], emu::Here here) {
  emu::Multiply mine{&c[0][0][0], &a[0][0], &b[0][0], M, N};
  emu::together(~0u, "mma", emu::multiply<E>, &mine, here);
}
template <int M, int N>
void mma_f16(float (&c)[M][N][4], const uint32_t (&a)[M][4], const uint32_t (&b)[N][2], EMU_HERE) {
  emulated_mma<emu::Element::f16>(c, a, b, here);
}
/// As k = 16 with zeros, which add nothing.
template <int M, int N>
void mma_f16(float (&c)[M][N][4], const uint32_t (&a)[M][2], const uint32_t (&b)[N], EMU_HERE) {
  uint32_t wide_a[M][4] = {}, wide_b[N][2] = {};
  for (int m = 0; m < M; ++m) wide_a[m][0] = a[m][0], wide_a[m][1] = a[m][1];
  for (int n = 0; n < N; ++n) wide_b[n][0] = b[n];
  emulated_mma<emu::Element::f16>(c, wide_a, wide_b, here);
}
template <int M, int N>
void mma_bf16(float (&c)[M][N][4], const uint32_t (&a)[M][4], const uint32_t (&b)[N][2], EMU_HERE) {
  emulated_mma<emu::Element::bf16>(c, a, b, here);
}
template <int M, int N>
void mma_s8(int32_t (&c)[M][N][4], const uint32_t (&a)[M][4], const uint32_t (&b)[N][2], EMU_HERE) {
  emulated_mma<emu::Element::s8>(c, a, b, here);
}
template <int N>
void mma_s8(int32_t (&d)[N][4], const uint32_t (&a)[4], const uint32_t (&b)[N][2], const int32_t (&c)[4],
            EMU_HERE) {
  for (int n = 0; n < N; ++n)
    for (int i = 0; i < 4; ++i) d[n][i] = c[i];
  emu::Multiply mine{&d[0][0], a, &b[0][0], 1, N};
  emu::together(~0u, "mma", emu::multiply<emu::Element::s8>, &mine, here);
}
inline void cp_async4_if(bool wanted, void* shared, const void* global, bool valid, EMU_HERE) {
  if (wanted) emu::copy_async(shared, global, 4, valid ? 4 : 0, here);
}
inline void cp_async16(void* shared, const void* global, bool valid, EMU_HERE) {
  emu::copy_async(shared, global, 16, valid ? 16 : 0, here);
}
inline void cp_async_commit() {
  emu::commit_group();
}
inline float fast_exp2(float x) {
  return std::exp2(x);
}
template <int N>
void cp_async_wait(EMU_HERE) {
  emu::wait_group(N, here);
}

}  // namespace nd::cuda

#endif

/// The same for a body that does not call follow_previous(): the kernel begins with it.
#define ND_KERNEL(name, Arguments, threads, blocks, ...) \
  ND_FOLLOWING_KERNEL(name, Arguments, threads, blocks, nd::cuda::follow_previous(), __VA_ARGS__)
