// What each layer multiplies: the role that it has in its model, how its weights are stored, and its shape
// decide, and nothing else does. The measurements behind the rules stand beside them, in precision.cpp.
#pragma once
#include <cstdint>

#include "nn/compute.h"
#include "weights/tensor_type.h"

namespace nd {

/// How much precision a model's products may give up. `automatic` follows the stored weights: float32 stays,
/// 16-bit ones multiply as bfloat16 where the device is fast at it, quantized ones as int8.
enum class Precision { automatic, f32, bf16, i8 };

/// The roles of layers that differ in precision.
enum class Role {
  hidden,              // most of the network
  middle_convolution,  // 3×3 convolutions of residual blocks between the highest and the lowest
                       // resolution
  input_output,        // the first and the last layer of the denoiser
  time_embedding,      // what makes the timestep's vector, and its projections into residual blocks
  shortcut,            // 1×1 convolutions around residual blocks
  clip_layer,          // of text and image encoders
  fine_projection,     // into and out of the transformers of the two highest resolutions
};

/// The roles of layers that are at every resolution level (0: highest resolution) of a denoiser.
Role convolution_role(int64_t level, int64_t levels);
Role projection_role(int64_t level);

/// What a device can multiply.
struct Capabilities {
  bool bf16 = false, i8 = false, i16 = false;
  bool bf16_is_slow = false;  // slower than float32: only on request
  bool bf16_attention = false;
  bool winograd_f32 = false, winograd_bf16 = false, winograd_i8 = false, winograd_i16 = false;
};

struct PrecisionPolicy {
  Precision requested = Precision::automatic;
  Capabilities device;
  bool i8_allowed = true;    // false in an autoencoder, where eight bits show in flat areas of the image
  bool prefers_i16 = false;  // true in an autoencoder: int16 instead of bfloat16, see precision.cpp

  /// What a product with weights stored as `type` multiplies.
  Compute product(Role role, TensorType type) const;
  /// Whether attention multiplies bfloat16, beside projections that multiply `projection`.
  Compute attention(Compute projection) const;

  struct Convolution {
    Compute compute;
    bool winograd;
  };
  /// A convolution of in × out channels. `winograd`: by Winograd's minimal filtering F(2×2, 3×3) (Lavin &
  /// Gray 2016) and not directly. `streamed`: its weights are read and packed whenever the layer runs.
  Convolution convolution(Role role, TensorType type, int64_t in, int64_t out, bool three_by_three,
                          bool streamed) const;
};

}  // namespace nd
