#include "core/cpu_count.h"

#include <algorithm>
#include <cmath>
#include <thread>

#ifdef __linux__
#include <sched.h>

#include <vector>

#include "core/linux_cpus.h"
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>

#include <cstdint>
#include <vector>
#endif

namespace nd {
namespace {

int online_cpus() {
  const unsigned n = std::thread::hardware_concurrency();
  return n ? static_cast<int>(n) : 1;
}

#ifdef __linux__
/// The CPUs of the process's affinity mask; none if it is not known.
std::vector<int> affinity() {
  // Machines with more than 1024 CPUs need a larger set than cpu_set_t.
  constexpr int kMaxCpus = 8192;
  std::vector<cpu_set_t> set(kMaxCpus / CPU_SETSIZE);
  const size_t bytes = set.size() * sizeof(cpu_set_t);
  std::vector<int> cpus;
  if (sched_getaffinity(0, bytes, set.data()) != 0) return cpus;
  for (int cpu = 0; cpu < kMaxCpus; ++cpu)
    if (CPU_ISSET_S(cpu, bytes, set.data())) cpus.push_back(cpu);
  return cpus;
}

int usable_cores() {
  const std::vector<int> cpus = affinity();
  return cpus.empty() ? online_cpus() : linux_cores("/sys/devices", cpus);
}

// The standard library of some compilers counts the CPUs of the machine.
int usable_cpus() {
  const std::vector<int> cpus = affinity();
  return cpus.empty() ? online_cpus() : static_cast<int>(cpus.size());
}

double quota() {
  return cgroup_quota("/sys/fs/cgroup", read_system_file("/proc/self/cgroup"));
}
#elif defined(__APPLE__)
int usable_cores() {
  // Level 0 are the performance cores; Intel Macs have no levels.
  for (const char* name : {"hw.perflevel0.physicalcpu", "hw.physicalcpu"}) {
    int cores = 0;
    size_t size = sizeof cores;
    if (sysctlbyname(name, &cores, &size, nullptr, 0) == 0 && cores > 0) return cores;
  }
  return online_cpus();
}

double quota() {
  return 0;
}
#elif defined(_WIN32)
int usable_cores() {
  DWORD bytes = 0;
  GetLogicalProcessorInformationEx(RelationProcessorCore, nullptr, &bytes);
  std::vector<uint8_t> memory(bytes);
  auto* first = reinterpret_cast<SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX*>(memory.data());
  if (bytes == 0 || !GetLogicalProcessorInformationEx(RelationProcessorCore, first, &bytes))
    return online_cpus();
  // The mask holds only where the process belongs to one group of at most 64 CPUs; zero otherwise.
  DWORD_PTR affinity = 0, system = 0;
  USHORT groups = 1, group = 0;
  if (!GetProcessGroupAffinity(GetCurrentProcess(), &groups, &group) ||
      !GetProcessAffinityMask(GetCurrentProcess(), &affinity, &system))
    affinity = 0;
  int cores = 0, fastest = -1;
  for (DWORD at = 0; at < bytes;) {
    const auto& entry = *reinterpret_cast<SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX*>(memory.data() + at);
    at += entry.Size;
    const PROCESSOR_RELATIONSHIP& core = entry.Processor;
    const GROUP_AFFINITY& cpus = core.GroupMask[0];
    if (affinity != 0 && (cpus.Group != group || (cpus.Mask & affinity) == 0)) continue;
    // The higher the class, the faster the core.
    if (core.EfficiencyClass > fastest) fastest = core.EfficiencyClass, cores = 0;
    if (core.EfficiencyClass == fastest) ++cores;
  }
  return cores > 0 ? cores : online_cpus();
}

/// Of the job that the process belongs to, as in a container.
double quota() {
  JOBOBJECT_CPU_RATE_CONTROL_INFORMATION rate = {};
  if (!QueryInformationJobObject(nullptr, JobObjectCpuRateControlInformation, &rate, sizeof rate, nullptr))
    return 0;
  constexpr DWORD kHard = JOB_OBJECT_CPU_RATE_CONTROL_ENABLE | JOB_OBJECT_CPU_RATE_CONTROL_HARD_CAP;
  // In hundredths of a percent of all CPUs.
  return (rate.ControlFlags & kHard) == kHard ? rate.CpuRate / 10000.0 * online_cpus() : 0;
}
#else
int usable_cores() {
  return online_cpus();
}

double quota() {
  return 0;
}
#endif

#ifndef __linux__
int usable_cpus() {
  return online_cpus();
}
#endif

int within_quota(int cpus) {
  const double limit = quota();
  return limit > 0 ? std::clamp(static_cast<int>(std::ceil(limit)), 1, cpus) : cpus;
}

}  // namespace

int physical_cores() {
  return within_quota(usable_cores());
}

int logical_cpus() {
  return within_quota(usable_cpus());
}

}  // namespace nd
