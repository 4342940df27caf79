// The language of kernels on the CPU: what nvcc knows without a header, and what cuda_fp16.h and cuda_bf16.h
// add, as far as our kernels use it.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "emulator.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

struct uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline float2 make_float2(float x, float y) {
  return {x, y};
}
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) {
  return {x, y, z, w};
}

namespace emu {

/// IEEE half precision. GCC 12 calls it by these names.
#if defined(__x86_64__)
using Float16 = _Float16;
#else
using Float16 = __fp16;
#endif

#define EMU_HERE emu::Here here = emu::Here::now()

/// What a kernel knows of the thread that runs, and of its block.
struct ThreadPlace {
  dim3 index;
  uint32_t lane = 0;
};
struct BlockPlace {
  dim3 index, size, grid;
};
// Initial-exec: kernels ask all the time, also those in a library.
extern thread_local const ThreadPlace* thread_place __attribute__((tls_model("initial-exec")));
extern thread_local const BlockPlace* block_place __attribute__((tls_model("initial-exec")));
// The same as calls, for kernels whose accesses are watched: those here are not of interest.
dim3 thread_index();
dim3 block_index();
dim3 block_dim();
dim3 grid_dim();
uint32_t lane();
uint8_t* dynamic_shared();

/// All lanes of `mask` meet; `op` runs once with the arguments of all 32 lanes (null where a lane is not in
/// the mask).
void together(uint32_t mask, const char* what, void (*op)(void** arguments), void* argument, Here here);
void block_barrier(Here here);
/// Waits for the previous kernel, as griddepcontrol.wait does.
void follow_previous();
/// Counts a fault and prints the first few. A fatal one ends the block.
void fault(const char* what, Here here, bool fatal);

enum class Access { read, write, atomic, async_begin, async_end };
void check(const void* address, size_t bytes, Access access, Here here);
inline void touch(const void* address, size_t bytes, Access access, Here here) {
  if (checking) check(address, bytes, access, here);
}

/// A thread's own copy of a kernel's parameter, which the host keeps in memory that nothing watches.
template <class T>
__attribute__((noinline, no_sanitize("thread"))) T parameter(void** parameters) {
  return *static_cast<const T*>(parameters[0]);
}

// --- asynchronous copies ---

void copy_async(void* shared, const void* global, uint32_t bytes, uint32_t valid_bytes, Here here);
void commit_group();
void wait_group(int max_pending, Here here);

// --- matrices of a warp ---

struct MatrixRows {
  const void* row;
  uint32_t* out;
  int count;
  bool transposed;
  Here here;
};
void load_matrices(void** lanes);

struct Multiply {
  void* c;                // [m][n][4] float or int32
  const uint32_t *a, *b;  // [m][4], [n][2]
  int m, n;
};
enum class Element { f16, bf16, s8 };
template <Element E>
void multiply(void** lanes);

// --- Hopper ---

/// What cuTensorMapEncodeTiled encodes.
struct alignas(64) TensorMap {
  const uint8_t* base;
  int rank, element_bytes, swizzle;  // swizzle: 0, 32, 64 or 128 bytes
  uint64_t size[5], stride[5];       // elements; bytes
  uint32_t box[5];
};
void barrier_init(uint64_t* barrier, uint32_t count, Here here);
void barrier_arrive(uint64_t* barrier, Here here);
void barrier_expect(uint64_t* barrier, uint32_t bytes, Here here);  // arrive.expect_tx
void barrier_wait(uint64_t* barrier, uint32_t parity, Here here);
void tensor_copy(void* shared, const TensorMap& map, uint64_t* barrier, const int32_t* at, Here here);
/// wgmma m64nNk16 of halves, both operands from shared memory.
void group_multiply(float* c, uint64_t a, uint64_t b, int n, Here here);
/// The same with a in registers, and b across k.
void group_multiply_registers(float* c, const uint32_t (&a)[4], uint64_t b, int n, Here here);
void group_commit(Here here);
void group_wait(int max_pending, Here here);
uint32_t shared_address(const void* pointer);

}  // namespace emu

#if defined(__SANITIZE_THREAD__)
#define threadIdx emu::thread_index()
#define blockIdx emu::block_index()
#define blockDim emu::block_dim()
#define gridDim emu::grid_dim()
#define EMU_LANE emu::lane()
#else
#define threadIdx emu::thread_place->index
#define blockIdx emu::block_place->index
#define blockDim emu::block_place->size
#define gridDim emu::block_place->grid
#define EMU_LANE emu::thread_place->lane
#endif

inline void __syncthreads(EMU_HERE) {
  emu::block_barrier(here);
}
inline void __syncwarp(uint32_t mask = ~0u, EMU_HERE) {
  int nothing = 0;
  emu::together(
      mask, "__syncwarp", [](void**) {}, &nothing, here);
}

// --- shuffles and votes ---

namespace emu {
template <class T>
struct Shuffle {
  T value, result;
  int from;
};
template <class T>
T shuffle(uint32_t mask, T value, int from, Here here) {
  Shuffle<T> mine{value, value, from};
  together(
      mask, "shuffle",
      [](void** lanes) {
        for (int i = 0; i < 32; ++i) {
          if (!lanes[i]) continue;
          Shuffle<T>& one = *static_cast<Shuffle<T>*>(lanes[i]);
          if (one.from < 0 || one.from >= 32) continue;
          if (lanes[one.from])
            one.result = static_cast<Shuffle<T>*>(lanes[one.from])->value;
          else
            fault("shuffle from a lane outside of the mask", {"shuffle", 0}, false);
        }
      },
      &mine, here);
  return mine.result;
}
}  // namespace emu

template <class T>
T __shfl_sync(uint32_t mask, T value, int from, int width = 32, EMU_HERE) {
  const int lane = static_cast<int>(EMU_LANE);
  return emu::shuffle(mask, value, (lane & ~(width - 1)) + (from & (width - 1)), here);
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int x, int = 32, EMU_HERE) {
  return emu::shuffle(mask, value, static_cast<int>(EMU_LANE) ^ x, here);
}
template <class T>
T __shfl_down_sync(uint32_t mask, T value, int by, int width = 32, EMU_HERE) {
  const int lane = static_cast<int>(EMU_LANE), to = lane + by;
  return emu::shuffle(mask, value, (to & ~(width - 1)) == (lane & ~(width - 1)) ? to : lane, here);
}
inline uint32_t __ballot_sync(uint32_t mask, bool predicate, EMU_HERE) {
  struct Vote {
    bool mine;
    uint32_t all;
  } vote{predicate, 0};
  emu::together(
      mask, "ballot",
      [](void** lanes) {
        uint32_t all = 0;
        for (int i = 0; i < 32; ++i) all |= lanes[i] && static_cast<Vote*>(lanes[i])->mine ? 1u << i : 0;
        for (int i = 0; i < 32; ++i)
          if (lanes[i]) static_cast<Vote*>(lanes[i])->all = all;
      },
      &vote, here);
  return vote.all;
}
inline int __any_sync(uint32_t mask, bool predicate, EMU_HERE) {
  return __ballot_sync(mask, predicate, here) != 0;
}

// --- atomics ---

namespace emu {
template <class T, class Update>
T atomic_update(T* p, const Update& update, Here here) {
  touch(p, sizeof(T), Access::atomic, here);
  T old, wanted;
  __atomic_load(p, &old, __ATOMIC_RELAXED);
  do {
    wanted = update(old);
  } while (!__atomic_compare_exchange(p, &old, &wanted, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return old;
}
}  // namespace emu
template <class T>
T atomicAdd(T* p, T value, EMU_HERE) {
  return emu::atomic_update(
      p, [value](T old) { return old + value; }, here);
}
template <class T>
T atomicMax(T* p, T value, EMU_HERE) {
  return emu::atomic_update(
      p, [value](T old) { return old < value ? value : old; }, here);
}

// --- numbers ---

struct __half {
  uint16_t bits;
};
struct __nv_bfloat16 {
  uint16_t bits;
};
struct alignas(4) __half2 {
  __half x, y;
};
using half = __half;
inline float __half2float(__half h) {
  emu::Float16 f;
  memcpy(&f, &h.bits, 2);
  return static_cast<float>(f);
}
inline __half __float2half_rn(float x) {
  const emu::Float16 f = static_cast<emu::Float16>(x);
  __half h;
  memcpy(&h.bits, &f, 2);
  return h;
}
inline __half2 __floats2half2_rn(float x, float y) {
  return {__float2half_rn(x), __float2half_rn(y)};
}
inline float2 __half22float2(__half2 h) {
  return {__half2float(h.x), __half2float(h.y)};
}
inline uint32_t __float_as_uint(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return bits;
}
inline int __ffs(int x) {
  return __builtin_ffs(x);
}
inline int __popc(uint32_t x) {
  return __builtin_popcount(x);
}
inline float __int_as_float(int bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}
inline float __expf(float x) {
  return std::exp(x);
}
inline float __fdividef(float a, float b) {
  return a / b;
}
/// The host's compiler must not fuse these two either. x: a vector register, on both processors.
inline float __fmul_rn(float a, float b) {
  float product = a * b;
  asm("" : "+x"(product));
  return product;
}
inline float __fadd_rn(float a, float b) {
  return a + b;
}
// These, too, are never contracted.
inline double __dmul_rn(double a, double b) {
  double product = a * b;
  asm("" : "+x"(product));
  return product;
}
inline double __dadd_rn(double a, double b) {
  return a + b;
}
inline double __dsub_rn(double a, double b) {
  return a - b;
}
inline float rsqrtf(float x) {
  return 1.0f / std::sqrt(x);
}
template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
  return a < b ? b : a;
}
