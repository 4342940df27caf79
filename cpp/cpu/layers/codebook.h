// The codebook of a vector-quantized autoencoder.
#pragma once
#include <vector>

#include "cpu/context.h"
#include "nn/layers.h"
#include "weights/weight_table.h"

namespace nd::cpu {

class Codebook final : public nd::Codebook {
 public:
  /// codes: [size][width]
  Codebook(const Device& device, const StoredTensor& codes);

  void quantize(ForwardContext& base, const Tensor& latents, int32_t* codes) const override;
  void lookup(const int32_t* codes, int64_t n, int64_t pixels, float* latents) const override;

 private:
  std::vector<float> transposed_;  // [width][size], so that distances to consecutive codes fill a vector
};

}  // namespace nd::cpu
