// Whole pictures, by the calls that the package makes for one (lib/pipeline/generate.ts).
#pragma once
#include <memory>
#include <vector>

#include "conditions.h"
#include "cuda/backend.h"
#include "model_configs.h"
#include "unet/unet.h"
#include "vae/vae.h"
#include "weights/tensor_type.h"

namespace nd::cuda_bench {

struct Picture {
  std::vector<uint8_t> pixels;                // three bytes each
  double prompts = 0, steps = 0, decode = 0;  // seconds
  bool finite = true;                         // all predictions and latents

  double seconds() const { return prompts + steps + decode; }
};

/// All parts of a model with random weights.
class PictureModel {
 public:
  /// `type`: of matrices and kernels, where quantizing a model changes them.
  PictureModel(const ModelConfig& config, cuda::CudaBackend& backend, TensorType type);

  /// Text encoding of a prompt and a negative prompt, `steps` guided steps of Euler's method from latents of
  /// side × side, whose arithmetic stays on the device, and decoding to pixels. Working memory is given back
  /// after each part, so each picture records its graphs.
  Picture draw(int64_t side, int64_t steps);

 private:
  /// Writes rows of the context and of the pooled output.
  void encode(const std::vector<int32_t>& tokens, size_t row, Conditions& conditions);
  std::vector<float> denoise(const Conditions& conditions, int64_t side, int64_t steps, bool& finite);
  void prepare(const Conditions& conditions, const std::vector<float>& timesteps);
  size_t decode_bytes_allowed(int64_t side) const;
  std::vector<uint8_t> decode(std::vector<float> latents, int64_t side);

  ModelConfig config_;
  cuda::CudaBackend& backend_;
  bool quantized_;
  std::vector<std::unique_ptr<TextEncoder>> texts_;
  std::unique_ptr<Unet> unet_;
  std::unique_ptr<Vae> vae_;
};

}  // namespace nd::cuda_bench
