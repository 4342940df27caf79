// The first include of every source in this folder: headers, then the fragments that all kernels need, in the
// order in which they need one another. The including file defines ND_ISA, a namespace of its own below
// nd::cpu, and ND_VECTOR, the header of its vector registers. README.md says what each fragment expects and
// gives.
#if !defined(ND_ISA) || !defined(ND_VECTOR)
#error "Define ND_ISA and ND_VECTOR before the prelude"
#endif

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "cpu/kernels/assert.h"
#include "cpu/kernels/int4.h"
#include "cpu/kernels/tables.h"

#include ND_VECTOR

namespace nd::cpu::ND_ISA {
namespace {

constexpr int kTileRows = 6;             // rows of activations in a register tile
constexpr int kNr = kTileVecs * kLanes;  // columns in a weight panel

inline int64_t min(int64_t a, int64_t b) {
  return a < b ? a : b;
}

/// The largest multiple of N·kLanes up to `count`. A loop over whole vectors ends there: of the condition
/// `i + kLanes <= count` Clang makes two counters.
template <int N = 1>
inline int64_t whole_vectors(int64_t count) {
  return count / (N * kLanes) * (N * kLanes);
}

/// For assertions: whether p is 64-byte aligned.
inline bool is_aligned(const void* p) {
  return reinterpret_cast<uintptr_t>(p) % 64 == 0;
}
/// For assertions: whether the channels of a vector are multiplied and shifted, or neither.
inline bool are_both_or_neither(const void* scale, const void* shift) {
  return (scale == nullptr) == (shift == nullptr);
}

}  // namespace
}  // namespace nd::cpu::ND_ISA

#include "cpu/kernels/simd/vecs.inc.h"
#include "cpu/kernels/simd/exp.inc.h"
#ifdef ND_GELU_TABLE
#include "cpu/kernels/simd/gelu_avx512.inc.h"
#else
#include "cpu/kernels/simd/gelu.inc.h"
#endif
#include "cpu/kernels/simd/activation.inc.h"
#include "cpu/kernels/simd/layout.inc.h"
