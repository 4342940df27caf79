// What a prediction is conditioned on besides the latents. One struct from TypeScript to the model's layers,
// so that a new kind of condition is one field here, and a part of the key of every cache that
// depends on it.
#pragma once
#include <cstdint>
#include <vector>

namespace nd {

class KeptTensors;
class ResidentTensors;
struct ImagePrompt;
struct ChangedInputs;

/// The features of one T2I-Adapter (Mou et al. 2023), which are added to what the levels of the encoder
/// compute: before the downsampling of levels with attention, after that of others; and to the middle block's
/// output, where there is one feature more.
struct AddedFeatures {
  const KeptTensors* kept = nullptr;  // row i of the batch has those of picture i modulo their number
  std::vector<float> scales;          // a factor of each feature
  int64_t first = 0, count = 0;       // the rows that they are added to
};

/// Arrays on the host, one row for each image of the batch. A model without the layers for a condition
/// requires that it is absent, and one with them that it is given.
struct Conditioning {
  const float* timesteps = nullptr;  // [n]
  const float* context = nullptr;    // [n][context_length][context_width], what cross-attention attends to
  int64_t context_length = 0;

  // UnetConfig::added_width: pooled text and numbers such as the size of the image (Podell et al. 2023,
  // "SDXL", section 2.2). pooled_width + time_ids · added_time_width must be added_width.
  const float* pooled = nullptr;  // [n][pooled_width]
  int64_t pooled_width = 0;
  const float* time_ids = nullptr;  // [n][time_id_count]
  int64_t time_id_count = 0;

  // UnetConfig::guidance_width: the guidance scale that a distilled model imitates (Meng et al. 2023, "On
  // Distillation of Guided Diffusion Models").
  const float* guidance = nullptr;  // [n]

  // What ControlNets add to the skip connections and to the middle block's output (Zhang et al. 2023, "Adding
  // Conditional Control to Text-to-Image Diffusion Models"): one tensor for each, in the device's memory.
  // Null: nothing. Any model can take them.
  const KeptTensors* residuals = nullptr;

  // Images that every cross-attention attends to beside the context; null: none. Any model can take them.
  const std::vector<ImagePrompt>* images = nullptr;
  // Those of T2I-Adapters; any model can take them.
  std::vector<AddedFeatures> features{};

  // KUnetConfig::condition_width: what is embedded with the timestep.
  const float* time_condition = nullptr;  // [n][condition_width]

  // What changes the inputs of attentions' projections; null: nothing. Any model can take it.
  const std::vector<ChangedInputs>* inputs = nullptr;

  // UnetConfig::class_embedding: a class or level of noise [n], or a vector [n][class_width].
  const float* classes = nullptr;

  // UnetConfig::control_types: which kinds of pictures guide a union ControlNet.
  const float* control_types = nullptr;  // [n][control_types], each 0 or 1
};

/// Noisy latents [n][in_channels][h][w] and what their prediction is conditioned on.
struct UnetInput {
  const float* latents = nullptr;
  int64_t n = 0, h = 0, w = 0;
  Conditioning conditioning;
  /// In place of `latents`, and of the prediction on the host. A program has been staged.
  ResidentTensors* resident = nullptr;
};

}  // namespace nd
