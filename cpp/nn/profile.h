// The time of a forward by kind of layer. Off by default; when enabled, it costs one clock reading at each
// change of kind, on the thread that runs the forward.
#pragma once
#include <chrono>
#include <cstdint>
#include <vector>

#include "nn/compute.h"

namespace nd {

class Profile {
 public:
  struct Row {
    const char* kind = "";
    Compute compute = Compute::f32;
    double seconds = 0;     // without what layers inside it took
    double operations = 0;  // of its products as they are computed: Winograd's fewer ones
    double bytes = 0;       // of activations ("everything else"), or of weights that are streamed
  };

  Profile();
  /// Time from now on belongs to this kind, a string that outlives the process; returns the one before.
  size_t enter(const char* kind, Compute compute);
  void resume(size_t row);
  void count(double operations) { rows_[current_].operations += operations; }
  void count_bytes(double bytes) { rows_[current_].bytes += bytes; }
  const std::vector<Row>& rows() const { return rows_; }

  /// Where measuring runs of the calling thread count their work, or null.
  static Profile* counted();
  /// While it lives, measuring runs of this thread count in `profile` what they would compute.
  class Counting {
   public:
    explicit Counting(Profile* profile);
    ~Counting();
    Counting(const Counting&) = delete;
    Counting& operator=(const Counting&) = delete;

   private:
    Profile* before_;
  };

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

/// While it lives, the time of the forward belongs to this kind of layer. A null profile measures nothing.
class Profiled {
 public:
  Profiled(Profile* profile, const char* kind, Compute compute) : profile_(profile) {
    if (profile_) before_ = profile_->enter(kind, compute);
  }
  ~Profiled() {
    if (profile_) profile_->resume(before_);
  }
  Profiled(const Profiled&) = delete;
  Profiled& operator=(const Profiled&) = delete;
  /// Operations of a product that this layer computes.
  void count(double operations) {
    if (profile_) profile_->count(operations);
  }

 private:
  Profile* profile_;
  size_t before_ = 0;
};

}  // namespace nd
