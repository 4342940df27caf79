// What a call leaves on the emulated GPU.
#pragma once
#include <string>

#include "core/error.h"
#include "driver.h"

namespace nd::cuda_test {

/// What lives that did not before, or nothing.
inline std::string left_behind(const emu::DriverCounts& before) {
  const emu::DriverCounts& after = emu::driver_counts;
  if (after.bytes != before.bytes) return std::to_string(after.bytes - before.bytes) + " bytes are left";
  if (after.streams != before.streams) return "a stream is left";
  if (after.graphs != before.graphs) return "a graph is left";
  if (after.events != before.events) return "an event is left";
  return after.contexts == before.contexts ? "" : "a context is left";
}

/// Loses the GPU at this launch of call(), which must say so and leave nothing: what is wrong, or nothing.
template <class Call>
std::string loses_the_gpu(int launch, const Call& call) {
  const emu::DriverCounts before = emu::driver_counts;
  emu::driver_options.fail_launch = launch;
  std::string why = "no error";
  try {
    call();
  } catch (const Error& error) {
    why = error.code() == ErrorCode::device_lost ? "" : error.what();
  }
  emu::recover();
  return why.empty() ? left_behind(before) : why;
}

}  // namespace nd::cuda_test
