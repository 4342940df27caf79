// The tables of kernels that tests go through.
#pragma once
#include <vector>

#include "kernels/kernels.h"

namespace nd::test {

inline std::vector<const Kernels*> all_tables() {
  int count = 0;
  const Kernels* const* tables = available_kernels(&count);
  return {tables, tables + count};
}

/// The scalar truth: always the last table.
inline const Kernels& reference() {
  return *all_tables().back();
}

/// One table of each set of float32 operations, best first, the reference last; the tables left out differ
/// from these in their narrow products.
inline std::vector<const Kernels*> float_tables() {
  std::vector<const Kernels*> distinct;
  for (const Kernels* table : all_tables())
    if (distinct.empty() || distinct.back()->gemm != table->gemm) distinct.push_back(table);
  return distinct;
}

}  // namespace nd::test
