// What the CPU backend found on this machine.
#pragma once
#include <vector>

namespace nd::cpu {

struct CpuInfo {
  std::vector<const char*> features;  // instruction sets that matter to the kernels and that this CPU has
  std::vector<const char*> kernels;   // names of the tables that can run here, best first
  const char* kernel = nullptr;       // the one in use
};

/// Error invalid_argument where the environment asks for kernels that are not there.
CpuInfo cpu_info();

}  // namespace nd::cpu
