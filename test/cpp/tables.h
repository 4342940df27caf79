// The tables of kernels that tests go through.
#pragma once
#include <vector>

#include "cpu/kernels/kernels.h"

namespace nd::test {

inline std::vector<const cpu::Kernels*> all_tables() {
  int count = 0;
  const cpu::Kernels* const* tables = cpu::available_kernels(&count);
  return {tables, tables + count};
}

/// The scalar truth: always the last table.
inline const cpu::Kernels& reference() {
  return *all_tables().back();
}

/// One table of each set of float32 operations, best first, the reference last; the tables left out differ
/// from these in their narrow products.
inline std::vector<const cpu::Kernels*> float_tables() {
  std::vector<const cpu::Kernels*> distinct;
  for (const cpu::Kernels* table : all_tables())
    if (distinct.empty() || distinct.back()->gemm != table->gemm) distinct.push_back(table);
  return distinct;
}

}  // namespace nd::test
