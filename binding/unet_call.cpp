#include "unet_call.h"

#include "engine_limits.h"

namespace nd_binding {

BatchSizes read_batch_sizes(const Fields& call) {
  BatchSizes sizes{};
  sizes.n = call.integer("n", 1, Limits::batch);
  sizes.h = call.integer("h", 1, Limits::side);
  sizes.w = call.integer("w", 1, Limits::side);
  sizes.pixels = batch_pixels(sizes.n, sizes.h, sizes.w);
  return sizes;
}

Fields read_conditioning(const Fields& call) {
  return Fields(call.get("conditioning"), call.name("conditioning"));
}

int64_t read_context_length(const Fields& conditioning, const nd::UnetConfig& config) {
  return conditioning.integer("contextLength", config.has_attention() ? 1 : 0, Limits::side);
}

nd::Conditioning Conditions::view() const {
  const auto given = [](const std::vector<float>& values) {
    return values.empty() ? nullptr : values.data();
  };
  nd::Conditioning result;
  result.timesteps = timesteps.data();
  result.context = context.data();
  result.context_length = context_length;
  result.pooled = given(pooled);
  result.pooled_width = pooled_width;
  result.time_ids = given(time_ids);
  result.time_id_count = time_id_count;
  result.guidance = given(guidance);
  result.time_condition = given(time_condition);
  result.classes = given(classes);
  result.control_types = given(control_types);
  result.residuals = residuals.get();
  result.images = images.empty() ? nullptr : &images;
  result.features = features;
  result.inputs = inputs.empty() ? nullptr : &inputs;
  return result;
}

Conditions read_embedded(const Fields& fields, int64_t n, const nd::UnetConfig& config) {
  Conditions conditions;
  conditions.timesteps = fields.floats("timesteps", n);
  if (fields.has("pooled")) {
    conditions.pooled_width = fields.integer("pooledWidth", 1, Limits::channels);
    conditions.pooled = fields.floats("pooled", n * conditions.pooled_width);
  }
  if (fields.has("timeIds")) {
    conditions.time_id_count = fields.integer("timeIdCount", 1, Limits::channels);
    conditions.time_ids = fields.floats("timeIds", n * conditions.time_id_count);
  }
  if (fields.has("guidance")) conditions.guidance = fields.floats("guidance", n);
  if (fields.has("classes")) conditions.classes = fields.floats("classes", n * config.class_floats());
  if (fields.has("controlTypes"))
    conditions.control_types = fields.floats("controlTypes", n * config.control_types);
  return conditions;
}

nd::UnetInput UnetCall::input() const {
  nd::UnetInput result;
  result.latents = latents.data();
  result.n = sizes.n, result.h = sizes.h, result.w = sizes.w;
  result.conditioning = conditions.view();
  return result;
}

UnetCall read_unet_call(const Fields& fields, const nd::UnetConfig& config, bool resident) {
  UnetCall call;
  call.sizes = read_batch_sizes(fields);
  if (!resident) call.latents = fields.floats("latents", call.sizes.pixels * config.in_channels);
  const Fields conditioning = read_conditioning(fields);
  call.conditions = read_embedded(conditioning, call.sizes.n, config);
  const int64_t length = read_context_length(conditioning, config);
  call.conditions.context_length = length;
  call.conditions.context = conditioning.floats("context", call.sizes.n * length * config.context_width);
  return call;
}

}  // namespace nd_binding
