// The codes of a vector-quantized autoencoder.
#pragma once
#include <vector>

#include "cuda/context.h"
#include "nn/layers.h"
#include "weights/weight_table.h"

namespace nd::cuda {

class Codebook final : public nd::Codebook {
 public:
  /// codes: [size][width]
  Codebook(const Device& device, Loader& loader, const StoredTensor& codes);

  void quantize(ForwardContext& base, const Tensor& latents, int32_t* codes) const override;
  void lookup(const int32_t* codes, int64_t n, int64_t pixels, float* latents) const override;

 private:
  std::vector<float> values_;  // [size][width]: looked up on the host, where both sides of it are
  Buffer table_;
};

}  // namespace nd::cuda
