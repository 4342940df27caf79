// The instruction sets of this CPU that matter to the engine, as `cpuInfo().features` lists them.
#pragma once
#include <string>
#include <vector>

namespace nd_binding {

inline std::vector<std::string> cpu_features() {
  std::vector<std::string> names;
#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("sse4.2")) names.push_back("sse4.2");
  if (__builtin_cpu_supports("avx")) names.push_back("avx");
  if (__builtin_cpu_supports("fma")) names.push_back("fma");
  if (__builtin_cpu_supports("avx2")) names.push_back("avx2");
  if (__builtin_cpu_supports("avx512f")) names.push_back("avx512f");
  if (__builtin_cpu_supports("avx512bw")) names.push_back("avx512bw");
  if (__builtin_cpu_supports("avx512vl")) names.push_back("avx512vl");
  if (__builtin_cpu_supports("avx512dq")) names.push_back("avx512dq");
  if (__builtin_cpu_supports("avx512vnni")) names.push_back("avx512vnni");
#elif defined(__aarch64__)
  names.push_back("neon");
#endif
  return names;
}

}  // namespace nd_binding
