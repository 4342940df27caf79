// The trial of overlapping launches on the user's own GPU: whether kernels whose blocks are placed while the
// previous kernel ends compute the same, in less time.
#pragma once
#include <string>

#include "core/cancel.h"

namespace nd::cuda {

class Device;

struct OverlapVerdict {
  bool on = false;
  std::string note;       // one line for people
  bool may_pass = false;  // it is off for want of memory
  /// Microseconds of a kernel in a chain of small ones.
  double plain = 0, overlapping = 0;
  double milliseconds = 0;  // that the trial took
};

/// In the device's own context: a graph of kernels, each of which reads what the last two have written, with
/// and without overlapping launches. Leaves the device as it was. Errors Cancelled, device_lost.
OverlapVerdict try_overlap(Device& device, const CancelToken* cancel = nullptr);

}  // namespace nd::cuda
