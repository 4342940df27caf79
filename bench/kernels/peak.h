// Peak rates of this CPU on one thread: loops of independent FMAs or dot products in registers and nothing
// else.
#pragma once
#include <cstdint>

namespace nd::cpu::bench {

/// Runs `rounds` rounds with the instruction set of the named table. Returns the number of operations (two
/// per lane and FMA), or 0 where there is no such loop for the instruction set.
int64_t multiply_add(const char* table, int64_t rounds);
/// The same for the dot products of int8 and bfloat16; only for tables that have Kernels::i8 and
/// Kernels::bf16.
int64_t dot_i8(const char* table, int64_t rounds);
int64_t dot_bf16(const char* table, int64_t rounds);

}  // namespace nd::cpu::bench
