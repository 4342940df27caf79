// Features from deep in the UNet, kept to serve later steps (Ma et al. 2024, "DeepCache: Accelerating
// Diffusion Models for Free"): they change slowly from one step to the next.
#pragma once
#include <cstdint>
#include <mutex>

#include "core/arena.h"
#include "nn/run.h"

namespace nd {

/// Belongs to whoever denoises, one for each run, so that nobody else's calls can touch it.
class DeepFeatures {
 public:
  /// What the features come from: they serve no other call.
  struct Origin {
    const void* unet = nullptr;
    int64_t n = 0, h = 0, w = 0;  // of the latents
    int64_t depth = 0;
    bool operator==(const Origin& other) const {
      return unet == other.unet && n == other.n && h == other.h && w == other.w && depth == other.depth;
    }
  };

  bool has(const Origin& origin) const { return complete_ && origin_ == origin; }
  /// A copy of x takes the place of what was kept; complete when finish() is called. Error out_of_memory.
  void keep(Run& run, const Feature& x);
  void finish(const Origin& origin);
  /// What was kept, for a run to read.
  Feature view() const { return Feature::borrowed(data_, n_, h_, w_, c_); }
  /// Bytes that keeping needs; known after a run that was only measured, too.
  size_t bytes() const { return static_cast<size_t>(n_ * h_ * w_ * c_) * sizeof(float); }

  /// For the length of a call: two UNets could be given the same features at once.
  std::mutex mutex;

 private:
  Arena arena_;
  float* data_ = nullptr;
  int64_t n_ = 0, h_ = 0, w_ = 0, c_ = 0;
  Origin origin_;
  bool complete_ = false;
};

}  // namespace nd
