// How long kernels take on a GPU.
#pragma once
#include <functional>
#include <vector>

#include "cuda/device.h"

namespace nd::cuda {

/// The device's context must be current while this lives.
class KernelTimer {
 public:
  explicit KernelTimer(const Device& device);
  ~KernelTimer();
  KernelTimer(const KernelTimer&) = delete;
  KernelTimer& operator=(const KernelTimer&) = delete;

  StreamHandle stream() const { return stream_; }
  /// Microseconds of a launch, measured so often, each time as the mean of `at_once` launches, as launching
  /// one may take longer than the kernel. They are in ascending order. One launch before is not measured: it
  /// loads what is loaded lazily.
  std::vector<double> measure(const std::function<void(StreamHandle)>& launch, int repetitions,
                              int at_once = 5) const;

 private:
  const Driver& driver_;
  StreamHandle stream_ = nullptr;
  EventHandle begin_ = nullptr, end_ = nullptr;
};

}  // namespace nd::cuda
