// CPU features, detected by the engine: with CPUID and XGETBV on x86-64, from the auxiliary vector,
// sysctl or IsProcessorFeaturePresent on 64-bit Arm. Compiler builtins are not used, as the features that
// they know depend on the compiler's version.
#pragma once
#include <cstdint>
#include <vector>

namespace nd::cpu {

/// The instruction sets that matter to the kernels. Each is true only if the operating system also saves its
/// registers.
struct CpuFeatures {
  // x86-64
  bool sse42 = false;
  bool avx = false;
  bool f16c = false;
  bool fma = false;
  bool avx2 = false;
  bool avxvnni = false;
  bool avx512f = false;
  bool avx512bw = false;
  bool avx512vl = false;
  bool avx512dq = false;
  bool avx512vnni = false;
  bool avx512bf16 = false;
  // 64-bit Arm
  bool neon = false;
  bool dotprod = false;
  bool i8mm = false;
  bool bf16 = false;
};

/// Of this CPU; detected once per process.
const CpuFeatures& cpu_features();

/// The names of the features that are true, in the order above: "sse4.2", "avx", … "neon", "dotprod", "i8mm",
/// "bf16".
std::vector<const char*> feature_names(const CpuFeatures& features = cpu_features());

/// The registers that describe an x86-64 CPU, separate from the instructions that read them, so that tests
/// can describe CPUs of their own.
struct X86Registers {
  struct Leaf {
    uint32_t a = 0, b = 0, c = 0, d = 0;
  };
  Leaf leaf1;         // CPUID 1
  Leaf leaf7;         // CPUID 7, subleaf 0
  Leaf leaf7_1;       // CPUID 7, subleaf 1
  uint64_t xcr0 = 0;  // XGETBV 0: the register files that the system saves; read only if leaf1 says OSXSAVE
  bool on_demand_avx512 = false;  // the system saves AVX-512 registers from their first use (macOS)
};
CpuFeatures decode_x86(const X86Registers& registers);

}  // namespace nd::cpu
