// The kernel tables that tests iterate over.
#pragma once
#include <vector>

#include "cpu/kernels/kernels.h"

namespace nd::test {

inline std::vector<const cpu::Kernels*> all_tables() {
  int count = 0;
  const cpu::Kernels* const* tables = cpu::available_kernels(&count);
  std::vector<const cpu::Kernels*> list;
  for (int i = 0; i < count; ++i) list.push_back(tables[i]);
  return list;
}

/// The scalar reference, which is always the last table.
inline const cpu::Kernels& reference() {
  int count = 0;
  const cpu::Kernels* const* tables = cpu::available_kernels(&count);
  return *tables[count - 1];
}

/// One table of each set of float32 kernels, best first, the reference last; the others differ from these in
/// reduced precision only.
inline std::vector<const cpu::Kernels*> float_tables() {
  std::vector<const cpu::Kernels*> distinct;
  for (const cpu::Kernels* table : all_tables())
    if (distinct.empty() || distinct.back()->gemm != table->gemm) distinct.push_back(table);
  return distinct;
}

}  // namespace nd::test
