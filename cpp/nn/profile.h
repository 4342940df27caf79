// Where a forward's time goes, by kind of layer. Off unless somebody measures; then a forward costs a clock
// reading at each change of kind, on the thread that drives it.
#pragma once
#include <chrono>
#include <cstdint>
#include <vector>

#include "kernels/kernels.h"

namespace nd {

class Profile {
 public:
  struct Row {
    const char* kind;
    Compute compute;
    double seconds = 0;     // without what layers inside it took
    double operations = 0;  // of its products as they are computed: Winograd's fewer ones
  };

  Profile();
  /// Time from now on belongs to this kind, a string that outlives the process; returns the one before.
  size_t enter(const char* kind, Compute compute);
  void resume(size_t row);
  void count(double operations) { rows_[current_].operations += operations; }

  /// For the whole process: forwards that begin while it is enabled are profiled.
  static bool enabled();
  static void enable(bool on);
  /// Adds a finished forward to what take() gives.
  static void add(Profile& finished);
  /// Everything since the last take(), largest time first.
  static std::vector<Row> take();

 private:
  using Clock = std::chrono::steady_clock;
  void settle();  // what has passed belongs to the current row
  std::vector<Row> rows_;
  size_t current_ = 0;
  Clock::time_point since_;
};

}  // namespace nd
