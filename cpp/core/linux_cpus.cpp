#include "core/linux_cpus.h"

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>
#include <utility>

namespace nd {
namespace {

int read_number(const std::string& path) {
  std::ifstream file(path);
  int value = -1;
  file >> value;
  return file ? value : -1;
}

/// The CPUs in a list such as "0-7,16".
std::set<int> read_list(const std::string& path) {
  std::set<int> result;
  std::ifstream file(path);
  std::string range;
  while (std::getline(file, range, ',')) {
    std::istringstream text(range);
    int first = 0, last = 0;
    char dash = 0;
    if (!(text >> first)) break;
    if (!(text >> dash >> last)) last = first;
    for (int cpu = first; cpu <= last && cpu < first + 4096; ++cpu) result.insert(cpu);
  }
  return result;
}

/// Those of `cpus` that are fast cores.
std::vector<int> fast_cpus(const std::string& devices, const std::vector<int>& cpus) {
  std::vector<int> fast;
  // Hybrid Intel CPUs: the performance monitors of each kind of core say which CPUs they belong to.
  const std::set<int> performance = read_list(devices + "/cpu_core/cpus");
  std::copy_if(cpus.begin(), cpus.end(), std::back_inserter(fast),
               [&](int cpu) { return performance.count(cpu) > 0; });
  if (!fast.empty()) return fast;
  // Arm: relative speeds, of which 1024 is the highest. A phone's middle cores reach about 700, its small
  // ones 300.
  std::vector<int> capacities;
  capacities.reserve(cpus.size());
  for (const int cpu : cpus)
    capacities.push_back(read_number(devices + "/system/cpu/cpu" + std::to_string(cpu) + "/cpu_capacity"));
  const int highest = capacities.empty() ? 0 : *std::max_element(capacities.begin(), capacities.end());
  for (size_t i = 0; i < cpus.size(); ++i)
    if (capacities[i] * 5 >= highest * 3) fast.push_back(cpus[i]);
  return fast.empty() ? cpus : fast;
}

/// Of one control group of version 2 and of version 1; 0 where it has none.
double quota_v2(const std::string& folder) {
  double quota = 0, period = 0;
  std::ifstream file(folder + "/cpu.max");
  // "max 100000" has no number where there is no limit.
  return file >> quota >> period && quota > 0 && period > 0 ? quota / period : 0;
}

double quota_v1(const std::string& folder) {
  double quota = 0, period = 0;
  // -1 where there is no limit.
  std::ifstream(folder + "/cpu.cfs_quota_us") >> quota;
  std::ifstream(folder + "/cpu.cfs_period_us") >> period;
  return quota > 0 && period > 0 ? quota / period : 0;
}

/// The lowest quota of `group` ("/a/b") and of all groups above it, below `root`.
template <class Quota>
double lowest(const std::string& root, std::string group, Quota quota_of) {
  double result = 0;
  for (;;) {
    const double quota = quota_of(root + (group == "/" ? "" : group));
    if (quota > 0 && (result == 0 || quota < result)) result = quota;
    if (group.empty() || group == "/") return result;
    group.resize(std::min(group.rfind('/'), group.size()));
  }
}

}  // namespace

int linux_cores(const std::string& devices, const std::vector<int>& cpus) {
  std::set<std::pair<int, int>> cores;
  for (const int cpu : fast_cpus(devices, cpus)) {
    const std::string topology = devices + "/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
    const int core = read_number(topology + "core_id");
    // Where the kernel tells no topology, every logical CPU counts as a core of its own.
    cores.insert(core < 0 ? std::make_pair(-1, cpu)
                          : std::make_pair(read_number(topology + "physical_package_id"), core));
  }
  return std::max(1, static_cast<int>(cores.size()));
}

double cgroup_quota(const std::string& root, const std::string& groups) {
  // Lines such as "0::/system.slice/app.service" (version 2) and "4:cpu,cpuacct:/docker/1234" (version 1). In
  // a container the path may be the host's, which is not below `root`; its own group is `root` then.
  std::string v2, v1;
  std::istringstream lines(groups);
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':'),
                 second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    if (controllers == ",,") v2 = line.substr(second + 1);
    if (controllers.find(",cpu,") != std::string::npos) v1 = line.substr(second + 1);
  }
  const double quota = lowest(root, v2, quota_v2);
  return quota > 0 ? quota : lowest(root + "/cpu", v1, quota_v1);
}

}  // namespace nd
