// Reads the arguments that calls of the denoiser, of ControlNets and of T2I-Adapters share.
#pragma once
#include <memory>
#include <vector>

#include "arguments.h"
#include "unet/image_prompts.h"
#include "unet/input_changes.h"
#include "unet/unet.h"

namespace nd_binding {

/// The batch of a call: n latents or pictures of h × w, and how many pixels all of them have.
struct BatchSizes {
  int64_t n, h, w, pixels;
};
BatchSizes read_batch_sizes(const Fields& call);

Fields read_conditioning(const Fields& call);
int64_t read_context_length(const Fields& conditioning, const nd::UnetConfig& config);

/// Copies of the conditions of a call, because JavaScript may change its arrays as soon as the call returns.
struct Conditions {
  std::vector<float> timesteps, context, pooled, time_ids, guidance, time_condition, classes, control_types;
  int64_t context_length = 0, pooled_width = 0, time_id_count = 0;
  std::shared_ptr<nd::KeptTensors> residuals;
  std::vector<nd::ImagePrompt> images;
  std::vector<nd::AddedFeatures> features;
  std::vector<nd::ChangedInputs> inputs;
  std::vector<std::shared_ptr<const nd::InputNetworks>> networks;  // that inputs refer to
  std::vector<std::shared_ptr<nd::KeptTensors>> kept;  // that images, features and inputs refer to

  nd::Conditioning view() const;
};

/// Everything but the context and what is kept in the engine, for n images.
Conditions read_embedded(const Fields& fields, int64_t n, const nd::UnetConfig& config);

/// A copy of the latents of a call and of what their prediction is conditioned on.
struct UnetCall {
  BatchSizes sizes{};
  std::vector<float> latents;
  Conditions conditions;

  nd::UnetInput input() const;
};

/// `resident`: the latents are on the device.
UnetCall read_unet_call(const Fields& fields, const nd::UnetConfig& config, bool resident = false);

}  // namespace nd_binding
