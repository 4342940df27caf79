// The kernel tables that this CPU can run, and the choice among them.
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "core/error.h"
#include "cpu/kernels/features.h"
#include "cpu/kernels/tables.h"

namespace nd::cpu {

namespace {

/// Variants that differ only in their reduced-precision products are tables of their own, so that each can be
/// asked for by name.
class Available {
 public:
  explicit Available(const CpuFeatures& cpu) {
    (void)cpu;
#ifdef ND_X86_KERNELS
    const bool avx2 = cpu.avx2 && cpu.fma && cpu.f16c;
    if (avx2 && cpu.avx512f && cpu.avx512bw && cpu.avx512vl && cpu.avx512dq) {
      Kernels& table = add("avx512", avx512_kernels);
      if (cpu.avx512bf16) {
        table.bf16 = &avx512_bf16;
        table.bf16_attention = &avx512_bf16_attention;
      }
      if (cpu.avx512vnni) {
        table.i8 = &avx512_i8;
        table.i16 = &avx512_i16;
      }
    }
    if (avx2 && cpu.avxvnni) add("avx2-vnni", avx2_kernels).i8 = &avxvnni_i8;
    if (avx2) add("avx2", avx2_kernels).i8 = &avx2_i8;
#endif
#ifdef ND_NEON_KERNELS
    // Only the best table has bfloat16.
    const ReducedGemm* bf16 = cpu.bf16 ? &neon_bf16 : nullptr;
    if (cpu.i8mm) {
      Kernels& table = add("neon-i8mm", neon_kernels);
      table.i8 = &neon_i8mm_i8;
      table.bf16 = std::exchange(bf16, nullptr);
    }
    if (cpu.dotprod) {
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
  static const Available list(cpu_features());
  return list;
}

const Kernels* find(const char* name) {
  const Available& list = available();
  for (int i = 0; i < list.count; ++i)
    if (std::strcmp(list.tables[i]->name, name) == 0) return list.tables[i];
  return nullptr;
}

const Kernels& choose() {
  const Available& list = available();
  const char* wanted = std::getenv("NODE_DIFFUSION_KERNELS");  // NOLINT(concurrency-mt-unsafe)
  if (!wanted || !*wanted) return *list.tables[0];
  if (const Kernels* found = find(wanted)) return *found;
  std::string names;
  for (int i = 0; i < list.count; ++i) names += (i ? ", " : "") + std::string(list.tables[i]->name);
  throw Error(ErrorCode::invalid_argument,
              "Expected one of " + names + " for NODE_DIFFUSION_KERNELS but received " + wanted);
}

}  // namespace

const Kernels* const* available_kernels(int* count) {
  *count = available().count;
  return available().tables;
}

const Kernels& portable_kernels() {
#if defined(ND_X86_KERNELS)
  constexpr const char* kPortable = "avx2";
#elif defined(ND_NEON_KERNELS)
  constexpr const char* kPortable = "neon";
#else
  constexpr const char* kPortable = "ref";
#endif
  if (const Kernels* found = find(kPortable)) return *found;
  throw Error(ErrorCode::device_unavailable,
              std::string("The portable kernels need a CPU with the instruction set ") + kPortable);
}

const Kernels& best_kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace nd::cpu
