#include "core/linux_cpus.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <set>
#include <utility>

#include "core/os.h"

namespace nd {
namespace {

/// The numbers that a text begins with, separated by blanks; at most `count`.
std::vector<int64_t> leading_numbers(const std::string& text, size_t count) {
  std::vector<int64_t> numbers;
  const char* at = text.c_str();
  while (numbers.size() < count) {
    char* end = nullptr;
    const int64_t number = std::strtoll(at, &end, 10);
    if (end == at) break;
    numbers.push_back(number);
    at = end;
  }
  return numbers;
}

/// -1 where there is no such file, or no number in it.
int read_number(const std::string& path) {
  const std::vector<int64_t> numbers = leading_numbers(read_system_file(path), 1);
  return numbers.empty() ? -1 : static_cast<int>(numbers[0]);
}

/// The CPUs in a list such as "0-7,16".
std::set<int> read_list(const std::string& path) {
  constexpr int64_t kMaxRange = 4096;
  std::set<int> result;
  const std::string text = read_system_file(path);
  for (const char* at = text.c_str();;) {
    char* end = nullptr;
    const int64_t first = std::strtoll(at, &end, 10);
    if (end == at) return result;
    const int64_t last = *end == '-' ? std::strtoll(end + 1, &end, 10) : first;
    for (int64_t cpu = first; cpu <= last && cpu - first < kMaxRange; ++cpu)
      result.insert(static_cast<int>(cpu));
    if (*end != ',') return result;
    at = end + 1;
  }
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

double ratio(int64_t quota, int64_t period) {
  return quota > 0 && period > 0 ? static_cast<double>(quota) / static_cast<double>(period) : 0;
}

/// Of one control group of version 2 and of version 1; 0 where it has none.
double quota_v2(const std::string& folder) {
  // "max 100000" has no number in front where there is no limit.
  const std::vector<int64_t> numbers = leading_numbers(read_system_file(folder + "/cpu.max"), 2);
  return numbers.size() == 2 ? ratio(numbers[0], numbers[1]) : 0;
}

double quota_v1(const std::string& folder) {
  // -1 where there is no limit.
  return ratio(read_number(folder + "/cpu.cfs_quota_us"), read_number(folder + "/cpu.cfs_period_us"));
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

// Not std::ifstream: it would bring all of the standard library's streams and locales into the addon, 250 kB.
std::string read_system_file(const std::string& path) {
  constexpr size_t kMaxBytes = 1 << 20;
  std::string text;
  const os::File file(path);
  if (!file.is_open()) return text;
  uint8_t part[4096];
  while (text.size() < kMaxBytes) {
    const int64_t bytes = file.read(text.size(), sizeof part, part);
    if (bytes <= 0) break;
    text.append(reinterpret_cast<const char*>(part), static_cast<size_t>(bytes));
  }
  return text;
}

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
  for (size_t begin = 0, end = 0; begin < groups.size(); begin = end + 1) {
    end = std::min(groups.find('\n', begin), groups.size());
    const std::string line = groups.substr(begin, end - begin);
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
