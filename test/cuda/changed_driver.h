// A driver of the emulator that behaves differently for a while.
#pragma once
#include "driver.h"

namespace nd::cuda_test {

/// Changes the emulated driver while it lives.
class ChangedDriver {
 public:
  ChangedDriver() : before_(emu::driver_options) {}
  ChangedDriver(const ChangedDriver&) = delete;
  ChangedDriver& operator=(const ChangedDriver&) = delete;
  ~ChangedDriver() { emu::driver_options = before_; }
  emu::DriverOptions* operator->() { return &emu::driver_options; }

 private:
  emu::DriverOptions before_;
};

}  // namespace nd::cuda_test
