#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "configs.h"
#include "engine_limits.h"
#include "kept.h"
#include "models.h"
#include "resident.h"
#include "unet_call.h"

namespace nd_binding {
namespace {

/// UnetOptions, and the features that they refer to. The model checks the values.
struct CallOptions {
  nd::UnetOptions options;
  std::shared_ptr<nd::DeepFeatures> deep;
};

CallOptions read_options(const Fields& call, const std::shared_ptr<void>& device) {
  CallOptions result;
  if (!call.has("options")) return result;
  const Fields fields(call.get("options"), call.name("options"));
  if (fields.has("tokenMerging")) result.options.token_merging = fields.number("tokenMerging");
  if (fields.has("depth"))
    result.options.depth = fields.integer("depth", 0, Limits::levels * (Limits::layers_per_level + 1));
  if (fields.has("reuse")) result.options.reuse = fields.boolean("reuse");
  if (fields.has("deep"))
    result.deep = DeepFeaturesWrap::from(fields.get("deep"), fields.name("deep"), device);
  result.options.deep = result.deep.get();
  return result;
}

/// Of conditioning.images.
void read_images(const Fields& conditioning, int64_t n, const std::shared_ptr<void>& device,
                 Conditions& conditions) {
  if (!conditioning.has("images")) return;
  const Napi::Array list = to_array(conditioning.get("images"), conditioning.name("images"));
  if (list.Length() > Limits::images)
    throw TypeFailure{"Expected fewer elements for call.conditioning.images"};
  for (uint32_t i = 0; i < list.Length(); ++i) {
    const Fields fields(list[i], conditioning.name("images") + "[" + std::to_string(i) + "]");
    conditions.kept.push_back(KeptTensorsWrap::from(fields.get("kept"), fields.name("kept"), device));
    nd::ImagePrompt prompt;
    prompt.kept = conditions.kept.back().get();
    prompt.rows = fields.ints("rows", n);
    prompt.scale = static_cast<float>(fields.number("scale"));
    conditions.images.push_back(std::move(prompt));
  }
}

/// Of conditioning.imageLengths: as many prompts of which nothing else is known.
std::vector<nd::ImagePrompt> read_image_lengths(const Fields& conditioning) {
  std::vector<nd::ImagePrompt> prompts;
  if (!conditioning.has("imageLengths")) return prompts;
  for (const int64_t length : conditioning.integers("imageLengths", 1, Limits::side, Limits::images)) {
    nd::ImagePrompt prompt;
    prompt.count = 2;
    prompt.length = length;
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

/// Of conditioning.features, those of T2I-Adapters.
void read_features(const Fields& conditioning, int64_t n, const std::shared_ptr<void>& device,
                   Conditions& conditions) {
  if (!conditioning.has("features")) return;
  const Napi::Array list = to_array(conditioning.get("features"), conditioning.name("features"));
  if (list.Length() > Limits::batch) throw TypeFailure{"Expected fewer elements for conditioning.features"};
  for (uint32_t i = 0; i < list.Length(); ++i) {
    const Fields fields(list[i], conditioning.name("features") + "[" + std::to_string(i) + "]");
    conditions.kept.push_back(KeptTensorsWrap::from(fields.get("kept"), fields.name("kept"), device));
    nd::AddedFeatures one;
    one.kept = conditions.kept.back().get();
    one.scales = fields.floats("scales", fields.integer("scaleCount", 0, Limits::levels + 1));
    one.count = fields.integer("count", 0, n);
    one.first = fields.integer("first", 0, n - one.count);
    conditions.features.push_back(std::move(one));
  }
}

/// Of conditioning.inputs, the networks of ControlLLLites.
void read_inputs(const Fields& conditioning, int64_t n, const std::shared_ptr<void>& device,
                 Conditions& conditions) {
  if (!conditioning.has("inputs")) return;
  const Napi::Array list = to_array(conditioning.get("inputs"), conditioning.name("inputs"));
  if (list.Length() > Limits::batch) throw TypeFailure{"Expected fewer elements for conditioning.inputs"};
  for (uint32_t i = 0; i < list.Length(); ++i) {
    const Fields fields(list[i], conditioning.name("inputs") + "[" + std::to_string(i) + "]");
    conditions.networks.push_back(ControlLlliteWrap::networks(fields.get("net"), fields.name("net")));
    conditions.kept.push_back(KeptTensorsWrap::from(fields.get("kept"), fields.name("kept"), device));
    nd::ChangedInputs one;
    one.networks = conditions.networks.back().get();
    one.kept = conditions.kept.back().get();
    one.scale = static_cast<float>(fields.number("scale"));
    one.count = fields.integer("count", 0, n);
    one.first = fields.integer("first", 0, n - one.count);
    conditions.inputs.push_back(one);
  }
}

}  // namespace

Napi::Value UnetWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    if (has_k_blocks(info[0])) return KUnetWrap::load(info);
    return ModelWrap::load(info, read_unet_config(info[0]));
  });
}

Napi::Value UnetWrap::max_depth(NativeObject& self, const Napi::CallbackInfo& info) {
  return bytes_value(info.Env(), model_of(self)->model().max_depth());
}

Napi::Value UnetWrap::predict(NativeObject& self, const Napi::CallbackInfo& info) {
  const Pointer shared = model_of(self);
  const nd::UnetConfig& config = shared->model().config();
  const Fields fields(info[0], "call");
  const bool is_resident = fields.has("resident");
  UnetCall read = read_unet_call(fields, config, is_resident);
  const Fields conditioning = read_conditioning(fields);
  if (conditioning.has("residuals"))
    read.conditions.residuals = KeptTensorsWrap::from(conditioning.get("residuals"),
                                                      conditioning.name("residuals"), shared->device());
  read_images(conditioning, read.sizes.n, shared->device(), read.conditions);
  read_features(conditioning, read.sizes.n, shared->device(), read.conditions);
  read_inputs(conditioning, read.sizes.n, shared->device(), read.conditions);
  const auto call = std::make_shared<const UnetCall>(std::move(read));
  const CallOptions options = read_options(fields, shared->device());
  shared->model().check(options.options);
  shared->model().check(call->conditions.view(), call->sizes.n);
  if (is_resident) {
    const ResidentInput resident = read_resident(fields, shared->device());
    return ModelWrap::call(info.Env(), shared, info[1],
                           [call, options, resident](nd::Unet& model, const nd::CancelToken& cancel) {
                             const std::lock_guard<std::mutex> lock(resident.tensors->mutex);
                             resident.tensors->stage(std::move(*resident.program));
                             nd::UnetInput input = call->input();
                             input.resident = resident.tensors.get();
                             model.predict(input, nullptr, &cancel, options.options);
                           });
  }
  return compute<float>(info.Env(), shared, info[1], call->sizes.pixels * config.out_channels,
                        [call, options](nd::Unet& model, float* out, const nd::CancelToken& cancel) {
                          model.predict(call->input(), out, &cancel, options.options);
                        });
}

Napi::Value UnetWrap::prepare(NativeObject& self, const Napi::CallbackInfo& info) {
  const Pointer shared = model_of(self);
  const Fields fields(info[0], "call");
  const int64_t n = fields.integer("n", 1, Limits::timesteps);
  auto conditions = std::make_shared<const Conditions>(
      read_embedded(read_conditioning(fields), n, shared->model().config()));
  shared->model().check(conditions->view(), n);
  return call(info.Env(), shared, info[1], [=](nd::Unet& model, const nd::CancelToken& cancel) {
    model.prepare(conditions->view(), n, &cancel);
  });
}

Napi::Value UnetWrap::working_bytes(NativeObject& self, const Napi::CallbackInfo& info) {
  const Pointer shared = model_of(self);
  const nd::Unet& model = shared->model();
  const Fields fields(info[0], "call");
  const BatchSizes sizes = read_batch_sizes(fields);
  const Fields conditioning = read_conditioning(fields);
  const int64_t length = read_context_length(conditioning, model.config());
  const CallOptions call = read_options(fields, shared->device());
  const size_t bytes =
      model.working_bytes(sizes.n, sizes.h, sizes.w, length, call.options, read_image_lengths(conditioning));
  return bytes_value(info.Env(), bytes);
}

const NativeMember UnetWrap::kMembers[4] = {
    {NativeMember::Kind::getter, "maxDepth", max_depth},
    {NativeMember::Kind::method, "predict", predict},
    {NativeMember::Kind::method, "prepare", prepare},
    {NativeMember::Kind::method, "workingBytes", working_bytes},
};

const NativeClass UnetWrap::kClass = {"NativeUnet", nullptr, true, model_bytes, {kMembers, kModelMembers}};

}  // namespace nd_binding
