// Tensors of a denoising run that stay in a device's memory from one forward to the next: latents,
// predictions, and what a sampling method remembers. Between two forwards a program computes with them.
#pragma once
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "core/cancel.h"

namespace nd {

/// A step of a program. Each element is computed in double precision, in the order of the terms, and rounded
/// to float32, as lib/ does it in JavaScript.
struct ResidentOperation {
  enum class Kind {
    combine,  // Σ factor · tensor
    guide,    // a + factor · (b − a); the factor is that of a
    clamp,    // a within ±factor
    rescale,  // b, its standard deviation in each image moved towards that of a by `factor` of a, 0…1
    blend,    // (1 − c) · a + c · b
    edit,     // c + factor · (a − b) + factor · (b − c); the factors are those of a and b
  };
  /// What `out` is, if it is looked at for numbers that are not finite.
  enum class Check { nothing, prediction, latents };
  struct Term {
    double factor = 0;
    int64_t tensor = 0;
  };
  Kind kind = Kind::combine;
  Check check = Check::nothing;
  int64_t out = 0;
  std::vector<Term> terms;
};

/// Uploads, then operations, for one forward or before tensors are read.
struct ResidentProgram {
  struct Upload {
    int64_t tensor = 0;
    std::vector<float> values;
  };
  std::vector<Upload> uploads;
  std::vector<ResidentOperation> operations;
  /// Further input channels, once in a run, or nothing.
  std::vector<float> further;
};

/// How many programs had been run, this one included, when numbers that are not finite were first found; 0:
/// none were.
struct ResidentChecks {
  int64_t prediction = 0, latents = 0;
};

/// All tensors have the shape of the run's latents, [images][c][h][w], in float32. A model may have further
/// input channels, which stay the same in all of a run: [rows][channels][h][w] for the largest batch, of
/// which a smaller one has the first rows.
class ResidentTensors {
 public:
  /// Tensors by number. A forward reads the first, once for each time that its batch repeats the images, and
  /// writes its prediction to the second and, if it has two or three times the rows, to those behind it.
  static constexpr int64_t kInput = 0, kPrediction = 1, kReserved = 4;
  static constexpr int64_t kMaxTensors = 256;
  static constexpr size_t kMaxTerms = 8;

  ResidentTensors(int64_t images, int64_t elements, int64_t further)
      : images_(images), elements_(elements), further_(further) {}
  virtual ~ResidentTensors() = default;
  ResidentTensors(const ResidentTensors&) = delete;
  ResidentTensors& operator=(const ResidentTensors&) = delete;

  int64_t images() const { return images_; }
  /// Of one tensor.
  int64_t elements() const { return elements_; }
  /// Of all further input channels.
  int64_t further() const { return further_; }

  /// Makes room for a program that the next forward runs before it reads. Error out_of_memory.
  virtual void stage(ResidentProgram program) = 0;
  /// Appends where the tensors lie that a forward reads and writes, and their shapes: what the arguments of
  /// its kernels depend on. After stage().
  virtual void describe(std::vector<uint64_t>& key) const = 0;
  /// Runs a program, waits for it, and copies tensors to `out`, one after the other. Throws Cancelled. Error
  /// out_of_memory.
  virtual ResidentChecks read(ResidentProgram program, const std::vector<int64_t>& tensors, float* out,
                              const CancelToken* cancel) = 0;

  /// Held for the length of a call.
  std::mutex mutex;

 private:
  const int64_t images_, elements_, further_;
};

}  // namespace nd
