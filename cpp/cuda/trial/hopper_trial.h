// The trial of Hopper's kernels on the user's own GPU, before models use them: results are compared with
// those of the kernels that run everywhere, and both are timed.
#pragma once
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "core/cancel.h"
#include "cuda/trial/hopper_fit.h"

namespace nd::cuda {

class Device;
struct Driver;

/// A trial that was given up while a kernel ran. Its context stays open, as closing it would wait for the
/// kernel.
class UnfinishedTrial {
 public:
  virtual ~UnfinishedTrial() = default;
  /// Whether the kernel has ended by now. If so, the destructor closes the context.
  virtual bool has_ended() = 0;
};

struct HopperVerdict {
  bool on = false;        // whether they are used where `times` has them as faster
  bool may_pass = false;  // off for want of memory or time, which other processes may have taken
  HopperTimes times;
  std::string note;                 // one line for people: "on: …", or "off: …" and why
  HopperMeasurements measurements;  // as far as they were made
  double milliseconds = 0;          // that the trial took
  std::shared_ptr<UnfinishedTrial> unfinished;
};

/// On GPU `number`, whose kernels are in `image`, in a context of its own: what goes wrong there does not
/// hurt models. It takes a few tenths of a second. Throws Cancelled; every other failure is a verdict.
/// `tiles` are the times of the products that Hopper's are compared with. `limit` bounds the wait for
/// kernels, also after a cancellation; if it is exceeded, the trial is unfinished.
HopperVerdict try_hopper(const Driver& driver, int number, const std::vector<char>& image,
                         const TileTimes& tiles, const CancelToken* cancel = nullptr,
                         std::chrono::milliseconds limit = std::chrono::seconds(3));

/// Has the device use what the verdict says.
void apply(const HopperVerdict& verdict, Device& device);

}  // namespace nd::cuda
