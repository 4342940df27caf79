// Features from deep in the UNet that are kept for later steps (Ma et al. 2024, "DeepCache: Accelerating
// Diffusion Models for Free"): they change slowly from one step to the next.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "nn/tensor.h"

namespace nd {

/// Each denoising run owns one, so that no other call can change it.
class DeepFeatures {
 public:
  /// The inputs of the features. They are valid only for calls with an equal origin.
  struct Origin {
    uint64_t weights = 0;         // Unet::weights_id(), unique to these weights
    int64_t n = 0, h = 0, w = 0;  // of the latents
    int64_t depth = 0;
    bool operator==(const Origin& other) const {
      return weights == other.weights && n == other.n && h == other.h && w == other.w && depth == other.depth;
    }
  };

  bool has(const Origin& origin) const { return complete_ && origin_ == origin; }
  /// What was kept is being replaced; complete when finish() is called.
  void begin() { complete_ = false; }
  /// While measuring: what will be kept has the shape of x. Otherwise: keeps a copy of x, of that shape.
  void keep(ForwardContext& ctx, const Tensor& x);
  /// The memory of what will be kept, after measuring. Error out_of_memory.
  void allocate(ForwardContext& ctx);
  void finish(const Origin& origin);
  /// What was kept, for a forward to read.
  Tensor view() const { return Tensor::borrowed(address_, n_, h_, w_, c_); }
  /// Appends where it lies and its shape: what the arguments of kernels that read or write it depend on.
  void describe(std::vector<uint64_t>& key) const;
  /// Bytes that keeping needs; also known after a forward that was only measured.
  size_t bytes() const { return bytes_; }

  /// Held for the length of a call: two UNets could be given the same features at once.
  std::mutex mutex;

 private:
  std::unique_ptr<Arena> arena_;  // in the memory of the device that the features were computed on
  Memory* memory_ = nullptr;
  Address address_;
  int64_t n_ = 0, h_ = 0, w_ = 0, c_ = 0;
  size_t bytes_ = 0;
  Origin origin_;
  bool complete_ = false;
};

}  // namespace nd
