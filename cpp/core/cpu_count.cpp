#include "core/cpu_count.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>
#include <thread>
#include <utility>

#ifdef __linux__
#include <sched.h>
#endif

namespace nd {
namespace {

#ifdef __linux__
int read_number(const std::string& path) {
  std::ifstream file(path);
  int value = -1;
  file >> value;
  return file ? value : -1;
}
#endif

int affinity_cores() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    std::set<std::pair<int, int>> cores;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &set)) continue;
      const std::string topology = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
      const int core = read_number(topology + "core_id");
      // Where the kernel tells no topology, every logical CPU counts as a core of its own.
      cores.insert(core < 0 ? std::make_pair(-1, cpu)
                            : std::make_pair(read_number(topology + "physical_package_id"), core));
    }
    if (!cores.empty()) return static_cast<int>(cores.size());
  }
#endif
  const unsigned n = std::thread::hardware_concurrency();
  return n ? static_cast<int>(n) : 1;
}

}  // namespace

namespace {
int within_quota(int cpus) {
  const double quota = cgroup_quota("/sys/fs/cgroup");
  return quota > 0 ? std::clamp(static_cast<int>(std::ceil(quota)), 1, cpus) : cpus;
}
}  // namespace

double cgroup_quota(const std::string& root) {
  double quota = 0, period = 0;
  // "max 100000" has no number where version 2 sets no limit; version 1 says −1.
  std::ifstream v2(root + "/cpu.max");
  if (v2 >> quota >> period && quota > 0 && period > 0) return quota / period;
  std::ifstream(root + "/cpu/cpu.cfs_quota_us") >> quota;
  std::ifstream(root + "/cpu/cpu.cfs_period_us") >> period;
  return quota > 0 && period > 0 ? quota / period : 0;
}

int physical_cores() {
  return within_quota(affinity_cores());
}

int logical_cpus() {
  // The C library counts those of the affinity mask.
  return within_quota(std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
}

}  // namespace nd
