#include "cuda/trial/kernel_timer.h"

#include <algorithm>

namespace nd::cuda {

KernelTimer::KernelTimer(const Device& device) : driver_(device.driver()) {
  try {
    check(driver_, driver_.stream_create(&stream_, kNonBlocking), "Could not create a stream");
    check(driver_, driver_.event_create(&begin_, 0), "Could not create an event");
    check(driver_, driver_.event_create(&end_, 0), "Could not create an event");
  } catch (...) {
    if (begin_) driver_.event_destroy(begin_);
    if (stream_) driver_.stream_destroy(stream_);
    throw;
  }
}

KernelTimer::~KernelTimer() {
  driver_.stream_synchronize(stream_);
  driver_.event_destroy(end_);
  driver_.event_destroy(begin_);
  driver_.stream_destroy(stream_);
}

std::vector<double> KernelTimer::measure(const std::function<void(StreamHandle)>& launch, int repetitions,
                                         int at_once) const {
  launch(stream_);
  std::vector<double> times;
  for (int i = 0; i < repetitions; ++i) {
    check(driver_, driver_.event_record(begin_, stream_), "Could not record an event");
    for (int j = 0; j < at_once; ++j) launch(stream_);
    check(driver_, driver_.event_record(end_, stream_), "Could not record an event");
    check(driver_, driver_.event_synchronize(end_), "The GPU failed");
    float milliseconds = 0;
    check(driver_, driver_.event_elapsed(&milliseconds, begin_, end_), "Could not read the time");
    times.push_back(static_cast<double>(milliseconds) * 1e3 / at_once);
  }
  std::sort(times.begin(), times.end());
  return times;
}

}  // namespace nd::cuda
