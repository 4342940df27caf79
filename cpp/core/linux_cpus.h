// What Linux says in its file systems about CPUs and quotas. The folders are parameters, so that tests can
// describe machines of their own.
#pragma once
#include <string>
#include <vector>

namespace nd {

/// The content of a file of /sys or /proc, whose size the system does not tell; empty if there is none. At
/// most 1 MB.
std::string read_system_file(const std::string& path);

/// The physical cores that these logical CPUs belong to, at least 1. Where cores are of different kinds
/// (performance and efficiency cores, big.LITTLE) only the fast ones count: a slow core would make all others
/// wait at the end of each layer. `devices` is normally "/sys/devices".
int linux_cores(const std::string& devices, const std::vector<int>& cpus);

/// The CPU quota of a process in CPUs, 0 where there is none: the lowest of its control group and all above
/// it. `root` is normally "/sys/fs/cgroup", and `groups` is the content of /proc/self/cgroup. Control groups
/// of version 2, then 1.
double cgroup_quota(const std::string& root, const std::string& groups);

}  // namespace nd
