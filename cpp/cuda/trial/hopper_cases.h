// Work that Hopper's kernels and those that run everywhere can both do, on random numbers.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "cuda/layers/attention_hopper.h"
#include "cuda/layers/product_plan.h"

namespace nd::cuda {

/// A product of [n][h][w][c]: a linear layer, or a convolution of 3×3 with its margin.
struct TrialProduct {
  int64_t n = 0, h = 0, w = 0, c = 0, o = 0;
  int64_t kernel = 1;
  bool upsample = false, geglu = false;
  bool epilogue = false;  // bias, image bias, SiLU, residual
  bool moments = false;   // Hopper's kernel takes those of its output; of one image
};

/// The same work twice, each with an output of its own.
struct HopperCase {
  Kernel kernel{};  // Hopper's
  std::function<void(StreamHandle)> everywhere, hopper;
  int64_t elements = 0;  // of an output
  double tolerance = 0;  // of the largest value
  double modelled = 0;   // microseconds of `everywhere`, as plan_product() has them
  Address moments;       // of Hopper's output, if `pieces`: [pieces][3][columns]
  int64_t pieces = 0, columns = 0;
};

/// Memory for such cases. The device's context must be current; closing it frees the memory.
class HopperCases {
 public:
  HopperCases(const Device& device, StreamHandle stream);

  /// With one of kHopperTiles; the other kernel and its splits are those that plan_product() chooses.
  HopperCase product(const TrialProduct& shape, int tile, int32_t splits);
  HopperCase attention(const SelfAttentionShape& shape);

  /// Fills both outputs with the same numbers, so that what a kernel fails to write differs; and moments.
  void clear(const HopperCase& one) const;
  /// The largest difference of both outputs, over the largest value; infinite where one is not finite. What
  /// lies just behind the outputs counts as well, and how far moments are from those of the output. Waits for
  /// the stream.
  double difference(const HopperCase& one) const;

 private:
  ProductArgs arguments(const TrialProduct& shape) const;
  std::function<void(StreamHandle)> launch(ProductArgs args, const ProductPlan& plan, half* y);
  const half* numbers(int64_t first) const;
  double moments_difference(const HopperCase& one, const std::vector<uint16_t>& output, double largest) const;

  const Device& device_;
  StreamHandle stream_;
  Address numbers_, floats_, outputs_[2];
};

}  // namespace nd::cuda
