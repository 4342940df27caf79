#include <mutex>
#include <utility>

#include "configs.h"
#include "engine_limits.h"
#include "kept.h"
#include "models.h"
#include "resident.h"
#include "unet_call.h"

namespace nd_binding {
namespace {

/// A copy of the input of a ControlNet, and what it refers to.
struct ControlCall {
  UnetCall unet;
  std::vector<float> scales;
  std::vector<nd::EmbeddedPictures> pictures;
  std::vector<std::shared_ptr<nd::KeptTensors>> kept;  // that the pictures refer to
  std::shared_ptr<nd::KeptTensors> residuals;
  int64_t first = 0, total = 0;
  bool replaces = true;

  nd::ControlInput input() const {
    nd::ControlInput result;
    result.unet = unet.input();
    result.pictures = pictures;
    result.scales = scales;
    result.residuals = residuals.get();
    result.first = first, result.total = total;
    result.replaces = replaces;
    return result;
  }
};

void read_pictures(const Fields& fields, const std::shared_ptr<void>& device, ControlCall& call) {
  const Napi::Array list = to_array(fields.get("pictures"), fields.name("pictures"));
  if (list.Length() < 1 || list.Length() > Limits::batch)
    throw TypeFailure{"Expected another number of elements for call.pictures"};
  for (uint32_t i = 0; i < list.Length(); ++i) {
    const Fields one(list[i], fields.name("pictures") + "[" + std::to_string(i) + "]");
    call.kept.push_back(KeptTensorsWrap::from(one.get("kept"), one.name("kept"), device));
    if (call.kept.back() == call.residuals) throw TypeFailure{"Expected other KeptTensors for call.to"};
    call.pictures.push_back({call.kept.back().get(), static_cast<float>(one.number("scale"))});
  }
}

}  // namespace

Napi::Value ControlNetWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return ModelWrap::load(info, read_control_net_config(info[0])); });
}

Napi::Value ControlNetWrap::residuals(NativeObject& self, const Napi::CallbackInfo& info) {
  return bytes_value(info.Env(), model_of(self)->model().residuals());
}

Napi::Value ControlNetWrap::embed(NativeObject& self, const Napi::CallbackInfo& info) {
  const Pointer shared = model_of(self);
  const nd::ControlNetConfig& config = shared->model().config();
  const Fields fields(info[0], "call");
  const BatchSizes sizes = read_batch_sizes(fields);
  const int64_t f = config.factor();
  const int64_t pixels = batch_pixels(sizes.n, f * sizes.h, f * sizes.w);
  const auto pictures =
      std::make_shared<const std::vector<float>>(fields.floats("pictures", pixels * config.image_channels));
  const auto to = KeptTensorsWrap::from(fields.get("to"), fields.name("to"), shared->device());
  nd::ControlPictures given;
  given.n = sizes.n, given.h = sizes.h, given.w = sizes.w;
  if (config.is_union()) {
    given.type = fields.integer("type", 0, config.unet.control_types - 1);
    given.scale = static_cast<float>(fields.number("scale"));
  }
  return call(info.Env(), shared, info[1], [=](nd::ControlNet& model, const nd::CancelToken& cancel) {
    nd::ControlPictures all = given;
    all.data = pictures->data();
    model.embed(all, *to, &cancel);
  });
}

Napi::Value ControlNetWrap::predict(NativeObject& self, const Napi::CallbackInfo& info) {
  const Pointer shared = model_of(self);
  const nd::ControlNet& model = shared->model();
  const Fields fields(info[0], "call");
  auto read = std::make_shared<ControlCall>();
  const bool is_resident = fields.has("resident");
  read->unet = read_unet_call(fields, model.config().unet, is_resident);
  model.check(read->unet.conditions.view(), read->unet.sizes.n);
  read->scales = fields.floats("scales", model.residuals());
  read->residuals = KeptTensorsWrap::from(fields.get("to"), fields.name("to"), shared->device());
  read_pictures(fields, shared->device(), *read);
  read->total = fields.integer("total", read->unet.sizes.n, Limits::batch);
  read->first = fields.integer("first", 0, read->total - read->unet.sizes.n);
  read->replaces = fields.boolean("replaces");
  const std::shared_ptr<const ControlCall> control = read;
  if (is_resident) {
    const ResidentInput resident = read_resident(fields, shared->device());
    return call(info.Env(), shared, info[1],
                [control, resident](nd::ControlNet& net, const nd::CancelToken& cancel) {
                  const std::lock_guard<std::mutex> lock(resident.tensors->mutex);
                  resident.tensors->stage(std::move(*resident.program));
                  nd::ControlInput input = control->input();
                  input.unet.resident = resident.tensors.get();
                  net.predict(input, &cancel);
                });
  }
  return call(info.Env(), shared, info[1], [control](nd::ControlNet& net, const nd::CancelToken& cancel) {
    net.predict(control->input(), &cancel);
  });
}

Napi::Value ControlNetWrap::prepare(NativeObject& self, const Napi::CallbackInfo& info) {
  const Pointer shared = model_of(self);
  const Fields fields(info[0], "call");
  const int64_t n = fields.integer("n", 1, Limits::timesteps);
  const auto conditions = std::make_shared<const Conditions>(
      read_embedded(read_conditioning(fields), n, shared->model().config().unet));
  shared->model().check(conditions->view(), n);
  return call(info.Env(), shared, info[1], [=](nd::ControlNet& model, const nd::CancelToken& cancel) {
    model.prepare(conditions->view(), n, &cancel);
  });
}

Napi::Value ControlNetWrap::memory(NativeObject& self, const Napi::CallbackInfo& info) {
  const Pointer shared = model_of(self);
  const nd::ControlNet& model = shared->model();
  const Fields fields(info[0], "call");
  const auto [n, h, w, pixels] = read_batch_sizes(fields);
  const int64_t pictures = fields.integer("pictures", 1, n);
  const int64_t length = read_context_length(read_conditioning(fields), model.config().unet);
  const nd::ControlNetMemory memory = model.memory(n, h, w, length, pictures);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("working", bytes_value(info.Env(), memory.working));
  result.Set("pictures", bytes_value(info.Env(), memory.pictures));
  result.Set("residuals", bytes_value(info.Env(), memory.residuals));
  return result;
}

const NativeMember ControlNetWrap::kMembers[5] = {
    {NativeMember::Kind::getter, "residuals", residuals}, {NativeMember::Kind::method, "embed", embed},
    {NativeMember::Kind::method, "predict", predict},     {NativeMember::Kind::method, "prepare", prepare},
    {NativeMember::Kind::method, "memory", memory},
};

const NativeClass ControlNetWrap::kClass = {
    "NativeControlNet", nullptr, true, model_bytes, {kMembers, kModelMembers}};

}  // namespace nd_binding
