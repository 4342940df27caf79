// Chooses the table of kernels by what this CPU (and its operating system, which must save the registers) can
// run.
#include <cstdlib>
#include <cstring>
#include <string>

#include "core/error.h"
#include "kernels/tables.h"

namespace nd {

namespace {

struct Available {
#ifdef ND_X86_KERNELS
  Kernels avx512_table;  // with the narrow products that this CPU has
#endif
  const Kernels* tables[4];
  int count = 0;

  Available() {
#ifdef ND_X86_KERNELS
    // __builtin_cpu_supports reads CPUID and, for the AVX families, XGETBV.
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    if (avx2 && avx512) {
      avx512_table = avx512_kernels;
      if (__builtin_cpu_supports("avx512bf16")) {
        avx512_table.bf16 = &avx512_bf16;
        avx512_table.bf16_attention = &avx512_bf16_attention;
      }
      if (__builtin_cpu_supports("avx512vnni")) avx512_table.i8 = &avx512_i8;
      tables[count++] = &avx512_table;
    }
    // Every CPU with AVX2 has F16C too; GCC 12's __builtin_cpu_supports does not know its name on all
    // versions.
    if (avx2) tables[count++] = &avx2_kernels;
#endif
#ifdef ND_NEON_KERNELS
    tables[count++] = &neon_kernels;
#endif
    tables[count++] = &ref_kernels;
  }
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

}  // namespace nd
