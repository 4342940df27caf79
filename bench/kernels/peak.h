// The most fp32 multiply-adds that one thread of this CPU can do: independent FMAs in registers and nothing
// else.
#pragma once
#include <cstdint>

namespace nd::cpu::bench {

/// Runs `rounds` rounds with the named table's instruction set; returns how many operations (2 per lane and
/// FMA) they were. 0 for a set without such a loop.
int64_t multiply_add(const char* table, int64_t rounds);
/// The same for the narrow dot products; only where Kernels::i8 and Kernels::bf16 of that table are there.
int64_t dot_i8(const char* table, int64_t rounds);
int64_t dot_bf16(const char* table, int64_t rounds);

}  // namespace nd::cpu::bench
