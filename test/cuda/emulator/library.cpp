// The emulator as a library in place of libcuda: the two functions by which load_driver() finds all others.
// Environment variables say what its devices are like.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace {

void from_environment(const char* name, int& option) {
  const char* text = getenv(name);
  if (text && *text) option = atoi(text);
}

int hopper_percent = 0;  // the speed of Hopper's kernels, of that of the others

double launch_time(const char* kernel, int64_t blocks, const void*) {
  return static_cast<double>(blocks) * (strstr(kernel, "hopper") ? 100.0 / hopper_percent : 1.0);
}

const bool configured = [] {
  emu::DriverOptions& options = emu::driver_options;
  int megabytes = 0;
  from_environment("ND_EMULATED_DEVICES", options.devices);
  from_environment("ND_EMULATED_CAPABILITY", options.capability);
  from_environment("ND_EMULATED_VERSION", options.version);
  from_environment("ND_EMULATED_MEMORY_MB", megabytes);
  if (const char* path = getenv("ND_EMULATED_COPIES")) options.copies = strdup(path);
  if (megabytes) options.memory = static_cast<size_t>(megabytes) << 20;
  int pinned = -1;
  from_environment("ND_EMULATED_PINNED_MB", pinned);
  if (pinned >= 0) options.pinned = int64_t{pinned} << 20;
  from_environment("ND_EMULATED_FAIL_LAUNCH", options.fail_launch);
  from_environment("ND_EMULATED_COMPUTES", options.computes);
  from_environment("ND_EMULATED_HOPPER_PERCENT", hopper_percent);
  if (hopper_percent) {
    options.multiprocessors = 64;
    options.launch_time = launch_time;
  }
  return true;
}();

/// What lives when the process ends, to the file that ND_EMULATED_REPORT names.
const struct Report {
  ~Report() {
    const char* path = getenv("ND_EMULATED_REPORT");
    FILE* file = path && *path ? fopen(path, "w") : nullptr;
    if (!file) return;
    const emu::DriverCounts& counts = emu::driver_counts;
    fprintf(file,
            "{\"bytes\": %lld, \"peak\": %lld, \"pinned\": %lld, \"streams\": %lld, \"events\": %lld, "
            "\"contexts\": %lld, \"allocations\": %lld}\n",
            static_cast<long long>(counts.bytes), static_cast<long long>(counts.peak),
            static_cast<long long>(counts.pinned), static_cast<long long>(counts.streams),
            static_cast<long long>(counts.events), static_cast<long long>(counts.contexts),
            static_cast<long long>(counts.allocations));
    fclose(file);
  }
} report;

}  // namespace

EXPORTED nd::cuda::Result cuDriverGetVersion(int* version) {
  using Get = nd::cuda::Result (*)(int*);
  return reinterpret_cast<Get>(emu::symbol(nullptr, "cuDriverGetVersion"))(version);
}

EXPORTED nd::cuda::Result cuGetProcAddress_v2(const char* name, void** function, int version, uint64_t flags,
                                              int* status) {
  using Find = nd::cuda::Result (*)(const char*, void**, int, uint64_t, int*);
  const auto find = reinterpret_cast<Find>(emu::symbol(nullptr, "cuGetProcAddress_v2"));
  return find(name, function, version, flags, status);
}
