// How many threads this process should compute with.
#pragma once
#include <string>

namespace nd {

/// Physical cores that this process may use, at least 1: those of its affinity mask, but no more than the CPU
/// quota of its control groups (containers), rounded up.
int physical_cores();

/// Threads that this process can run at the same moment, at least 1: the logical CPUs of its affinity mask,
/// with the same bound.
int logical_cpus();

/// The CPU quota below `root` (normally "/sys/fs/cgroup") in CPUs; 0 where there is none. Control groups of
/// version 2, then 1.
double cgroup_quota(const std::string& root);

}  // namespace nd
