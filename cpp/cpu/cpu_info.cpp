#include "cpu/cpu_info.h"

#include "cpu/kernels/features.h"
#include "cpu/kernels/kernels.h"

namespace nd::cpu {

CpuInfo cpu_info() {
  CpuInfo info;
  info.features = feature_names();
  int count = 0;
  const Kernels* const* tables = available_kernels(&count);
  for (int i = 0; i < count; ++i) info.kernels.push_back(tables[i]->name);
  info.kernel = best_kernels().name;
  return info;
}

}  // namespace nd::cpu
