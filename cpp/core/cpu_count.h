// How many threads this process should compute with.
#pragma once

namespace nd {

/// Physical cores that this process may use, at least 1: those of its affinity mask, but no more than its CPU
/// quota (of a container, a service, a job), rounded up. Efficiency cores do not count.
int physical_cores();

/// Threads that this process can run at the same moment, at least 1: the logical CPUs of its affinity mask,
/// with the same bound.
int logical_cpus();

}  // namespace nd
