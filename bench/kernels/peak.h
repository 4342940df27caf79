// The peak rates of this CPU, measured by loops of independent multiply-adds in registers.
#pragma once
#include <cstdint>

namespace nd::cpu::bench {

/// Runs `rounds` rounds with the instruction set of the named table and returns how many operations they were
/// (2 per lane and FMA), or 0 if there is no such loop.
int64_t multiply_add(const char* table, int64_t rounds);
/// The same for dot products of int8 and bfloat16, if the table has Kernels::i8 or Kernels::bf16.
int64_t dot_i8(const char* table, int64_t rounds);
int64_t dot_bf16(const char* table, int64_t rounds);

}  // namespace nd::cpu::bench
