#include "cpu/kernels/features.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>

#include <cstddef>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#endif

namespace nd::cpu {

namespace {

bool bit(uint64_t x, int index) {
  return x >> index & 1;
}

#if defined(__x86_64__)
X86Registers::Leaf cpuid(uint32_t leaf, uint32_t subleaf) {
  X86Registers::Leaf result;
  // Fails above the highest leaf that the CPU has.
  if (!__get_cpuid_count(leaf, subleaf, &result.a, &result.b, &result.c, &result.d)) return {};
  return result;
}

CpuFeatures detect() {
  X86Registers registers;
  registers.leaf1 = cpuid(1, 0);
  registers.leaf7 = cpuid(7, 0);
  if (registers.leaf7.a >= 1) registers.leaf7_1 = cpuid(7, 1);  // a: the highest subleaf
  if (bit(registers.leaf1.c, 27)) {
    uint32_t low = 0, high = 0;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    registers.xcr0 = uint64_t{high} << 32 | low;
  }
#ifdef __APPLE__
  registers.on_demand_avx512 = true;
#endif
  return decode_x86(registers);
}
#elif defined(__aarch64__) && defined(__APPLE__)
bool has(const char* name) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}

CpuFeatures detect() {
  CpuFeatures result;
  result.neon = true;
  result.dotprod = has("hw.optional.arm.FEAT_DotProd");
  result.i8mm = has("hw.optional.arm.FEAT_I8MM");
  result.bf16 = has("hw.optional.arm.FEAT_BF16");
  return result;
}
#elif defined(__aarch64__) && defined(__linux__)
CpuFeatures detect() {
  // Bits of the kernel's ABI (asm/hwcap.h), which old headers do not name.
  const uint64_t hwcap = getauxval(AT_HWCAP), hwcap2 = getauxval(AT_HWCAP2);
  CpuFeatures result;
  result.neon = bit(hwcap, 1);
  result.dotprod = bit(hwcap, 20);
  result.i8mm = bit(hwcap2, 13);
  result.bf16 = bit(hwcap2, 14);
  return result;
}
#elif defined(__aarch64__) && defined(_WIN32)
CpuFeatures detect() {
  // PF_ARM_V82_DP, PF_ARM_V82_I8MM and PF_ARM_V86_BF16_INSTRUCTIONS_AVAILABLE, which old headers do not name.
  // Systems older than these constants answer 0.
  CpuFeatures result;
  result.neon = true;
  result.dotprod = IsProcessorFeaturePresent(43) != 0;
  result.i8mm = IsProcessorFeaturePresent(66) != 0;
  result.bf16 = IsProcessorFeaturePresent(68) != 0;
  return result;
}
#else
CpuFeatures detect() {
  CpuFeatures result;
#if defined(__aarch64__)
  result.neon = true;  // part of the architecture; extensions are not detected on this system
#endif
  return result;
}
#endif

struct Name {
  const char* name;
  bool CpuFeatures::*feature;
};
constexpr Name kNames[] = {
    {"sse4.2", &CpuFeatures::sse42},
    {"avx", &CpuFeatures::avx},
    {"f16c", &CpuFeatures::f16c},
    {"fma", &CpuFeatures::fma},
    {"avx2", &CpuFeatures::avx2},
    {"avxvnni", &CpuFeatures::avxvnni},
    {"avx512f", &CpuFeatures::avx512f},
    {"avx512bw", &CpuFeatures::avx512bw},
    {"avx512vl", &CpuFeatures::avx512vl},
    {"avx512dq", &CpuFeatures::avx512dq},
    {"avx512vnni", &CpuFeatures::avx512vnni},
    {"avx512bf16", &CpuFeatures::avx512bf16},
    {"neon", &CpuFeatures::neon},
    {"dotprod", &CpuFeatures::dotprod},
    {"i8mm", &CpuFeatures::i8mm},
    {"bf16", &CpuFeatures::bf16},
};

}  // namespace

// Bits as in Intel's Software Developer's Manual, volume 2, CPUID, and volume 1, chapter 13 (XCR0).
CpuFeatures decode_x86(const X86Registers& registers) {
  const uint32_t c1 = registers.leaf1.c, b7 = registers.leaf7.b, c7 = registers.leaf7.c,
                 a71 = registers.leaf7_1.a;
  CpuFeatures result;
  result.sse42 = bit(c1, 20);

  const bool osxsave = bit(c1, 27);
  const bool saves_ymm = osxsave && bit(registers.xcr0, 1) && bit(registers.xcr0, 2);
  result.avx = saves_ymm && bit(c1, 28);
  if (!result.avx) return result;
  result.f16c = bit(c1, 29);
  result.fma = bit(c1, 12);
  result.avx2 = bit(b7, 5);
  result.avxvnni = result.avx2 && bit(a71, 4);

  // Mask registers, the upper halves of zmm0…15, and zmm16…31.
  const bool saves_zmm = bit(registers.xcr0, 5) && bit(registers.xcr0, 6) && bit(registers.xcr0, 7);
  result.avx512f = (saves_zmm || registers.on_demand_avx512) && result.avx2 && bit(b7, 16);
  if (!result.avx512f) return result;
  result.avx512bw = bit(b7, 30);
  result.avx512vl = bit(b7, 31);
  result.avx512dq = bit(b7, 17);
  result.avx512vnni = bit(c7, 11);
  result.avx512bf16 = bit(a71, 5);
  return result;
}

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

std::vector<const char*> feature_names(const CpuFeatures& features) {
  std::vector<const char*> names;
  for (const Name& entry : kNames)
    if (features.*entry.feature) names.push_back(entry.name);
  return names;
}

}  // namespace nd::cpu
