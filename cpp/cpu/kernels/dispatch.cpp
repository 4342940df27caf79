// Chooses the table of kernels by what this CPU (and its operating system, which must save the registers) can
// run.
#ifdef ND_X86_KERNELS
#include <cpuid.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(__linux__)
#include <sys/auxv.h>
#endif
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "core/error.h"
#include "cpu/kernels/tables.h"

namespace nd::cpu {

namespace {

#ifdef ND_X86_KERNELS
/// CPUID leaf 7, subleaf 1, EAX bit 4; not every compiler's __builtin_cpu_supports knows its name.
bool has_avxvnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || a < 1) return false;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}
#endif

#ifdef ND_NEON_KERNELS
#ifdef __APPLE__
bool has_feature(const char* name) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value;
}
bool has_neon_dotprod() {
  return has_feature("hw.optional.arm.FEAT_DotProd");
}
bool has_neon_i8mm() {
  return has_feature("hw.optional.arm.FEAT_I8MM");
}
bool has_neon_bf16() {
  return has_feature("hw.optional.arm.FEAT_BF16");
}
#elif defined(__linux__)
// Bits of the kernel's ABI (asm/hwcap.h), which old headers do not name.
bool has_neon_dotprod() {
  return getauxval(AT_HWCAP) >> 20 & 1;
}
bool has_neon_i8mm() {
  return getauxval(AT_HWCAP2) >> 13 & 1;
}
bool has_neon_bf16() {
  return getauxval(AT_HWCAP2) >> 14 & 1;
}
#else
bool has_neon_dotprod() {
  return false;
}
bool has_neon_i8mm() {
  return false;
}
bool has_neon_bf16() {
  return false;
}
#endif
#endif

/// Tables that differ only in their narrow products are tables of their own, so that each can be asked for.
class Available {
 public:
  Available() {
#ifdef ND_X86_KERNELS
    // __builtin_cpu_supports reads CPUID and, for the AVX families, XGETBV.
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    if (avx2 && avx512) {
      Kernels& table = add("avx512", avx512_kernels);
      if (__builtin_cpu_supports("avx512bf16")) {
        table.bf16 = &avx512_bf16;
        table.bf16_attention = &avx512_bf16_attention;
      }
      if (__builtin_cpu_supports("avx512vnni")) table.i8 = &avx512_i8;
    }
    // Every CPU with AVX2 has F16C too; GCC 12's __builtin_cpu_supports does not know its name on all
    // versions.
    if (avx2 && has_avxvnni()) add("avx2-vnni", avx2_kernels).i8 = &avxvnni_i8;
    if (avx2) add("avx2", avx2_kernels).i8 = &avx2_i8;
#endif
#ifdef ND_NEON_KERNELS
    // bfloat16 belongs to the best table alone.
    const ReducedGemm* bf16 = has_neon_bf16() ? &neon_bf16 : nullptr;
    if (has_neon_i8mm()) {
      Kernels& table = add("neon-i8mm", neon_kernels);
      table.i8 = &neon_i8mm_i8;
      table.bf16 = std::exchange(bf16, nullptr);
    }
    if (has_neon_dotprod()) {
      Kernels& table = add("neon-dotprod", neon_kernels);
      table.i8 = &neon_dotprod_i8;
      table.bf16 = bf16;
    }
    add("neon", neon_kernels);
#endif
    tables[count++] = &ref_kernels;
  }

  static constexpr int kMax = 4;
  const Kernels* tables[kMax];
  int count = 0;

 private:
  Kernels& add(const char* name, const Kernels& kernels) {
    Kernels& table = variants_[count];
    table = kernels;
    table.name = name;
    tables[count++] = &table;
    return table;
  }
  Kernels variants_[kMax - 1];
};

const Available& available() {
  static const Available list;
  return list;
}

const Kernels& choose() {
  const Available& list = available();
  const char* cap = std::getenv("NODE_DIFFUSION_KERNELS");
  if (!cap || !*cap) return *list.tables[0];
  std::string names;
  for (int i = 0; i < list.count; ++i) {
    if (std::strcmp(list.tables[i]->name, cap) == 0) return *list.tables[i];
    names += (i ? ", " : "") + std::string(list.tables[i]->name);
  }
  throw Error(ErrorCode::invalid_argument,
              "Expected one of " + names + " for NODE_DIFFUSION_KERNELS but received " + cap);
}

}  // namespace

const Kernels* const* available_kernels(int* count) {
  *count = available().count;
  return available().tables;
}

const Kernels& best_kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace nd::cpu
