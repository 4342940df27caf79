// Detected CPU features against the compiler's builtin and the operating system, and for made-up CPUs.
#include "cpu/kernels/features.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "fixture_models.h"
#include "harness.h"
#include "tables.h"

namespace nd::test {
using namespace nd::cpu;
namespace {

struct Expected {
  const char* name;
  bool found, expected;
};

std::string differences(const std::vector<Expected>& features) {
  std::string why;
  for (const Expected& feature : features)
    if (feature.found != feature.expected)
      why += std::string(feature.name) + (feature.found ? " was found; " : " was not found; ");
  return why;
}

#if defined(__x86_64__)
#if defined(__GNUC__)
// GCC 12 and Clang 14 know these names; f16c and avxvnni only one of them.
std::string agrees_with_builtin() {
  __builtin_cpu_init();
  const CpuFeatures& cpu = cpu_features();
  return differences({
      {"sse4.2", cpu.sse42, __builtin_cpu_supports("sse4.2") != 0},
      {"avx", cpu.avx, __builtin_cpu_supports("avx") != 0},
      {"fma", cpu.fma, __builtin_cpu_supports("fma") != 0},
      {"avx2", cpu.avx2, __builtin_cpu_supports("avx2") != 0},
      {"avx512f", cpu.avx512f, __builtin_cpu_supports("avx512f") != 0},
      {"avx512bw", cpu.avx512bw, __builtin_cpu_supports("avx512bw") != 0},
      {"avx512vl", cpu.avx512vl, __builtin_cpu_supports("avx512vl") != 0},
      {"avx512dq", cpu.avx512dq, __builtin_cpu_supports("avx512dq") != 0},
      {"avx512vnni", cpu.avx512vnni, __builtin_cpu_supports("avx512vnni") != 0},
      {"avx512bf16", cpu.avx512bf16, __builtin_cpu_supports("avx512bf16") != 0},
  });
}
#endif

/// The flags of the first CPU in /proc/cpuinfo, surrounded by spaces.
std::string cpuinfo_flags() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.compare(0, 5, "flags") == 0) return line.substr(line.find(':') + 1) + " ";
  return "";
}

std::string agrees_with_cpuinfo() {
  const std::string flags = cpuinfo_flags();
  if (flags.empty()) return "";
  const auto has = [&](const char* flag) {
    return flags.find(" " + std::string(flag) + " ") != std::string::npos;
  };
  const CpuFeatures& cpu = cpu_features();
  // Only one way: kernels do not list features that they are too old for or were told to hide.
  std::vector<Expected> listed;
  const auto expect = [&](const char* flag, bool found) {
    if (has(flag)) listed.push_back({flag, found, true});
  };
  expect("sse4_2", cpu.sse42);
  expect("avx", cpu.avx);
  expect("f16c", cpu.f16c);
  expect("fma", cpu.fma);
  expect("avx2", cpu.avx2);
  expect("avx_vnni", cpu.avxvnni);
  expect("avx512f", cpu.avx512f);
  expect("avx512bw", cpu.avx512bw);
  expect("avx512vl", cpu.avx512vl);
  expect("avx512dq", cpu.avx512dq);
  expect("avx512_vnni", cpu.avx512vnni);
  expect("avx512_bf16", cpu.avx512bf16);
  return differences(listed);
}

#endif

/// A CPU that has everything, under a system that saves everything.
X86Registers all_features() {
  X86Registers registers;
  registers.leaf1.c = registers.leaf7.b = registers.leaf7.c = registers.leaf7_1.a = ~0u;
  registers.xcr0 = ~uint64_t{0};
  return registers;
}

std::string names(const X86Registers& registers) {
  std::string result;
  for (const char* name : feature_names(decode_x86(registers))) result += std::string(name) + " ";
  return result;
}

std::string check_names(const X86Registers& registers, const std::string& expected) {
  const std::string found = names(registers);
  return found == expected ? "" : "found " + found + "instead of " + expected;
}

constexpr const char* kUpToAvx2 = "sse4.2 avx f16c fma avx2 avxvnni ";

const Register suite([] {
#if defined(__x86_64__)
#if defined(__GNUC__)
  test("cpu features/agree with the compiler's builtin", agrees_with_builtin);
#endif
  test("cpu features/agree with the operating system", agrees_with_cpuinfo);
#endif
  test("cpu features/every name", [] {
    return check_names(all_features(),
                       std::string(kUpToAvx2) + "avx512f avx512bw avx512vl avx512dq avx512vnni avx512bf16 ");
  });
  test("cpu features/no AVX without OSXSAVE", [] {
    X86Registers registers = all_features();
    registers.leaf1.c &= ~(1u << 27);
    return check_names(registers, "sse4.2 ");
  });
  test("cpu features/no AVX if the system does not save ymm registers", [] {
    X86Registers registers = all_features();
    registers.xcr0 = 3;  // x87 and SSE
    return check_names(registers, "sse4.2 ");
  });
  for (const int state : {5, 6, 7})
    test("cpu features/no AVX-512 if the system does not save state " + std::to_string(state), [=] {
      X86Registers registers = all_features();
      registers.xcr0 &= ~(uint64_t{1} << state);
      return check_names(registers, kUpToAvx2);
    });
  test("cpu features/AVX-512 where the system saves it on demand", [] {
    X86Registers registers = all_features();
    registers.xcr0 = 7;
    registers.on_demand_avx512 = true;
    return names(registers) == names(all_features()) ? "" : names(registers);
  });
  test("cpu features/none on an old CPU", [] { return check_names(X86Registers(), ""); });
  test("cpu features/the tables are those of the CPU", [] {
    const CpuFeatures& cpu = cpu_features();
    std::vector<std::string> found;
    for (const Kernels* table : all_tables()) found.emplace_back(table->name);
    const auto has = [&](const char* name) {
      return std::find(found.begin(), found.end(), name) != found.end();
    };
    return differences({
        {"table avx512", has("avx512"), cpu.avx512f && cpu.avx512bw && cpu.avx512vl && cpu.avx512dq},
        {"table avx2", has("avx2"), cpu.avx2},
        {"table avx2-vnni", has("avx2-vnni"), cpu.avxvnni},
        {"table neon", has("neon"), cpu.neon},
        {"table neon-dotprod", has("neon-dotprod"), cpu.dotprod},
        {"table neon-i8mm", has("neon-i8mm"), cpu.i8mm},
        {"table ref", has("ref"), true},
    });
  });
});

}  // namespace
}  // namespace nd::test
